"""Gather a sweep: the rows of all runs in one parquet data set, a table of the runs, and the report.

The runs are also exported as trials of `distcond.tune`, so that both kinds of sweeps have the same report.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from cluster.slurm.runs import Run
from cluster.slurm.status import RunStatus, count_states, run_statuses, runs_table, varied_settings
from cluster.slurm.sweep import Sweep
from distcond import api
from distcond.atomic_io import atomic_write_text
from distcond.errors import ConfigError
from distcond.results.store import part_files, read_rows, write_part
from distcond.run_layout import FINISHED_FILE, RESULTS_DIR


def gather(sweep: Sweep) -> str:
    """Gather what the runs have written so far. Returns the report as text, with the paths of the files.

    Raises:
        ConfigError: no run has results yet.
    """
    target, statuses = sweep.path / "gathered", _read_statuses(sweep)
    with_results = [run for run in sweep.runs if Path(run.run_dir).is_dir() and part_files(Path(run.run_dir))]
    count = sum(_copy_rows(run, target) for run in with_results)
    if not count:
        raise ConfigError(f"{sweep.path}: no run has results yet ({count_states(statuses)}); see `status`")
    atomic_write_text(target / "runs.csv", _format_csv(sweep.runs))
    finished = [one.run for one in statuses if one.state == "finished"]
    report = _report_runs(finished, target) + _report_trials(statuses, target)
    rows = f"{count} rows of {len(with_results)} of {len(sweep.runs)} runs in {target / RESULTS_DIR}"
    active = any(one.state in ("running", "waiting") for one in statuses)
    note = f"\nstill running ({count_states(statuses)}): gather again when they are finished" if active else ""
    return f"{runs_table(sweep.runs)}\n\n{report}{rows}\nvaried settings: {target / 'runs.csv'}{note}"


def export_trials(statuses: Sequence[RunStatus], target: Path) -> None:
    """Write `sweep.json` and `trials/` into `target`, one trial per run, for `python -m distcond.report TARGET`."""
    runs = [
        api.JobRun(
            one.run.recipe,
            one.run.overrides,
            one.run.run_dir,
            "waiting" if one.state == "missing" else one.state,
            one.detail if one.state == "failed" else "",
        )
        for one in statuses
    ]
    api.export_trials(target, target.parent.name, runs, varied_settings([one.run for one in statuses]))


def _read_statuses(sweep: Sweep) -> list[RunStatus]:
    """The status of all runs. Where SLURM does not answer, as on another machine, unfinished runs count as waiting."""
    try:
        return run_statuses(sweep)
    except ConfigError:
        states = ["finished" if Path(run.run_dir, FINISHED_FILE).exists() else "waiting" for run in sweep.runs]
        return [RunStatus(run, state) for run, state in zip(sweep.runs, states, strict=True)]


def _copy_rows(run: Run, target: Path) -> int:
    rows = read_rows(run.run_dir)
    write_part(target, run.run_id, rows)
    return len(rows)


def _report_runs(finished: Sequence[Run], target: Path) -> str:
    """The report of the finished runs, which is also written to a file."""
    if not finished:
        return ""
    text = api.report(*(run.run_dir for run in finished), f"png={target / 'curves.png'}")
    atomic_write_text(target / "report.txt", text)
    return f"{text}\n"


def _report_trials(statuses: Sequence[RunStatus], target: Path) -> str:
    """The report of a tuning sweep: effects of the settings, and a page. "" for a job that explores by itself."""
    if statuses[0].run.tune:
        return ""
    export_trials(statuses, target)
    return f"{api.report(str(target))}\n"


def _format_csv(runs: Sequence[Run]) -> str:
    out = io.StringIO()
    writer, paths = csv.writer(out), varied_settings(runs)
    writer.writerow(["run_id", "run_dir", "recipe", *paths])
    writer.writerows(
        [run.run_id, run.run_dir, run.recipe, *(run.overrides.get(path) for path in paths)] for run in runs
    )
    return out.getvalue()
