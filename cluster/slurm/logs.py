"""What a run's jobs printed."""

from __future__ import annotations

from pathlib import Path

from cluster.slurm.identify import Run
from cluster.slurm.state import last_submissions
from cluster.slurm.sweep import Sweep
from distcond.errors import ConfigError


def files_of(sweep: Sweep, run: Run) -> list[Path]:
    """The output of all tasks of a run's last job, standard output before standard error.

    Raises:
        ConfigError: it has no job, or that has written nothing.
    """
    last = last_submissions(sweep).get(run.run_id)
    if last is None or not last.job:
        raise ConfigError(f"{run.run_id}: no job of it is known; see `status`")
    files = [*sorted(sweep.jobs.glob(f"{last.job}_*_log.out")), *sorted(sweep.jobs.glob(f"{last.job}_*_log.err"))]
    if not files:
        unseen = "it has not started, or its node does not see the sweep directory"
        raise ConfigError(f"{run.run_id}: job {last.job} has printed nothing: {unseen}; see `status`")
    return files


def last_lines(sweep: Sweep, run: Run, lines: int) -> str:
    """The last lines of each of them, under its name."""
    shown = []
    for file in files_of(sweep, run):
        held = file.read_text(errors="replace").splitlines()[-lines:] if lines > 0 else []
        if held:
            shown.append("\n".join([f"==> {file}", *held]))
    return "\n\n".join(shown) or "nothing printed yet"
