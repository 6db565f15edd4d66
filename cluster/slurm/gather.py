"""The results of a sweep in one place: every row in one parquet data set, a table of the runs, and the report."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from cluster.slurm.identify import Run
from cluster.slurm.state import Standing, standings
from cluster.slurm.sweep import Sweep
from cluster.slurm.table import counts, runs_table, varying
from distcond.aside import write_text
from distcond.errors import ConfigError
from distcond.results.store import FOLDER, parts, read_rows, write_part


def gather(sweep: Sweep) -> str:
    """Gather what the runs have written so far; the report as text, with the paths of what was written.

    Raises:
        ConfigError: no run has results yet.
    """
    target, found = sweep.path / "gathered", _standings(sweep)
    held = [run for run in sweep.runs if Path(run.run_dir).is_dir() and parts(Path(run.run_dir))]
    rows = 0
    for run in held:
        of_run = read_rows(run.run_dir)
        rows += len(of_run)
        write_part(target, run.run_id, of_run)
    if not rows:
        raise ConfigError(f"{sweep.path}: no run has results yet ({counts(found)}); see `status`")
    write_text(target / "runs.csv", _csv(sweep.runs))
    finished = [one.run for one in found if one.state == "finished"]
    report = _report(finished, target) + _as_tuned(found, target)
    said = f"{rows} rows of {len(held)} of {len(sweep.runs)} runs in {target / FOLDER}"
    going = any(one.state in ("running", "waiting") for one in found)
    still = f"\nstill running ({counts(found)}): gather again when they are finished" if going else ""
    return f"{runs_table(sweep.runs)}\n\n{report}{said}\nwhat varies: {target / 'runs.csv'}{still}"


def _standings(sweep: Sweep) -> list[Standing]:
    """How the runs stand; where SLURM does not answer, as on another machine, what is not finished waits."""
    try:
        return standings(sweep)
    except ConfigError:
        states = ["finished" if Path(run.run_dir, "finished.json").exists() else "waiting" for run in sweep.runs]
        return [Standing(run, state) for run, state in zip(sweep.runs, states, strict=True)]


def _report(finished: Sequence[Run], target: Path) -> str:
    """What `python -m distcond.report` says of the finished runs; kept as a file, too."""
    if not finished:
        return ""
    from distcond import report

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        report.main([*(run.run_dir for run in finished), f"png={target / 'curves.png'}"])
    write_text(target / "report.txt", said.getvalue())
    return f"{said.getvalue()}\n"


def _as_tuned(found: Sequence[Standing], target: Path) -> str:
    """The same as after a tuning: what the settings matter, and a page; "" of a job that explores by itself."""
    if found[0].run.tune:
        return ""
    from cluster.slurm.as_tuned import write_as_tuned
    from distcond import report

    write_as_tuned(found, target)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        report.main([str(target)])
    return f"{said.getvalue()}\n"


def _csv(runs: Sequence[Run]) -> str:
    out = io.StringIO()
    writer, paths = csv.writer(out), varying(runs)
    writer.writerow(["run_id", "run_dir", "recipe", *paths])
    writer.writerows(
        [run.run_id, run.run_dir, run.recipe, *(run.overrides.get(path) for path in paths)] for run in runs
    )
    return out.getvalue()
