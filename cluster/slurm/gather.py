"""Gather a sweep: every row in one parquet data set, a table of the runs, and the report.

The runs are also exported as trials in the form of `distcond.tune`, so that both kinds of sweep have the same report.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.slurm.runs import Run, format_value
from cluster.slurm.status import RunStatus, count_states, run_statuses, runs_table, varied_settings
from cluster.slurm.sweep import Sweep
from distcond.atomic_io import atomic_write_text
from distcond.config.overrides import resolve, to_settings
from distcond.errors import ConfigError
from distcond.results import history
from distcond.results.store import part_files, read_rows, write_part
from distcond.run_layout import FINISHED_FILE, RESULTS_DIR


def export_trials(standings: Sequence[RunStatus], target: Path) -> None:
    """Write `sweep.json` and `trials/` into `target`, one trial a run, for `python -m distcond.report TARGET`."""
    from distcond.tuning.axis import Axis
    from distcond.tuning.objective import read_objective, spent, values
    from distcond.tuning.space import Space
    from distcond.tuning.sweep_dir import SweepDir
    from distcond.tuning.trial import Trial
    from distcond.tuning.words import Words

    runs = [one.run for one in standings]
    paths, first = varied_settings(runs), runs[0]
    drawn = [_varied_values(run, paths) for run in runs]
    axes = tuple(Axis(path, "choice", values=tuple(_distinct([one.get(path) for one in drawn]))) for path in paths)
    fixed = {path: value for path, value in first.overrides.items() if path not in paths}
    words, sweep = Words(search="grid"), SweepDir(target)
    sweep.begin(Space(target.parent.name, "", first.recipe, len(runs), axes=axes, fixed=fixed), words)
    for number, (run, state, _, detail) in enumerate(standings):
        records = history.read(run.run_dir)
        objectives = [read_objective(name, resolve(run.recipe, run.overrides)) for name in words.objective]
        flops, seconds = spent(records)
        found = [(r["epoch"], *_values_up_to(objectives, records, r["epoch"], values)) for r in records if r.get("val")]
        sweep.write(
            Trial(
                number, drawn[number], "waiting" if state == "missing" else state, run.run_dir,
                epochs=records[-1]["epoch"] if records else 0, values=tuple(values(objectives, records, (0.0, 0.0))),
                curve=tuple(point for point in found if len(point) > 1), flops=flops, seconds=seconds,
                error=detail if state == "failed" else "",
            )
        )  # fmt: skip


def _values_up_to(objectives: Any, records: Sequence[Any], epoch: int, values: Any) -> list[float]:
    found: list[float] = values(objectives, [record for record in records if record["epoch"] <= epoch], (0.0, 0.0))
    return found


def _varied_values(run: Run, paths: Sequence[str]) -> dict[str, Any]:
    """What a run has of what varies, as numbers where they are: a grid's values are words."""
    typed = to_settings(resolve(run.recipe, run.overrides))
    return {path: typed.get(path, typed.get(f"{path}.name", run.overrides.get(path, run.recipe))) for path in paths}


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({format_value(value): value for value in values}.values())


def gather(sweep: Sweep) -> str:
    """Gather what the runs have written so far; the report as text, with the paths of what was written.

    Raises:
        ConfigError: no run has results yet.
    """
    target, found = sweep.path / "gathered", _statuses(sweep)
    held = [run for run in sweep.runs if Path(run.run_dir).is_dir() and part_files(Path(run.run_dir))]
    rows = 0
    for run in held:
        of_run = read_rows(run.run_dir)
        rows += len(of_run)
        write_part(target, run.run_id, of_run)
    if not rows:
        raise ConfigError(f"{sweep.path}: no run has results yet ({count_states(found)}); see `status`")
    atomic_write_text(target / "runs.csv", _csv(sweep.runs))
    finished = [one.run for one in found if one.state == "finished"]
    report = _report(finished, target) + _trials_report(found, target)
    said = f"{rows} rows of {len(held)} of {len(sweep.runs)} runs in {target / RESULTS_DIR}"
    going = any(one.state in ("running", "waiting") for one in found)
    still = f"\nstill running ({count_states(found)}): gather again when they are finished" if going else ""
    return f"{runs_table(sweep.runs)}\n\n{report}{said}\nwhat varies: {target / 'runs.csv'}{still}"


def _statuses(sweep: Sweep) -> list[RunStatus]:
    """How the runs stand; where SLURM does not answer, as on another machine, what is not finished waits."""
    try:
        return run_statuses(sweep)
    except ConfigError:
        states = ["finished" if Path(run.run_dir, FINISHED_FILE).exists() else "waiting" for run in sweep.runs]
        return [RunStatus(run, state) for run, state in zip(sweep.runs, states, strict=True)]


def _report(finished: Sequence[Run], target: Path) -> str:
    """What `python -m distcond.report` says of the finished runs; kept as a file, too."""
    if not finished:
        return ""
    from distcond import report

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        report.main([*(run.run_dir for run in finished), f"png={target / 'curves.png'}"])
    atomic_write_text(target / "report.txt", said.getvalue())
    return f"{said.getvalue()}\n"


def _trials_report(found: Sequence[RunStatus], target: Path) -> str:
    """The same as after a tuning: what the settings matter, and a page; "" of a job that explores by itself."""
    if found[0].run.tune:
        return ""
    from distcond import report

    export_trials(found, target)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        report.main([str(target)])
    return f"{said.getvalue()}\n"


def _csv(runs: Sequence[Run]) -> str:
    out = io.StringIO()
    writer, paths = csv.writer(out), varied_settings(runs)
    writer.writerow(["run_id", "run_dir", "recipe", *paths])
    writer.writerows(
        [run.run_id, run.run_dir, run.recipe, *(run.overrides.get(path) for path in paths)] for run in runs
    )
    return out.getvalue()
