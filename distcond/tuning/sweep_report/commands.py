"""The command that repeats a trial."""

from __future__ import annotations

import shlex
from typing import Any

from distcond.tuning.sweep_report.read import Sweep


def command(sweep: Sweep, number: int) -> str:
    """`python -m distcond.train RECIPE PATH=VALUE ...` for a trial.

    A trial that went on from another one's checkpoint is no run of one command: then its course is told behind `#`.
    """
    space = sweep.asked["space"]
    trial = next(trial for trial in sweep.trials if trial["number"] == number)
    # A trial has one worker where nothing is said; a run by itself would take more, each with its own BN statistics.
    settings = {"launch.workers": 1, **space["fixed"], **trial["drawn"]}
    words = [shlex.quote(f"{path}={text(value)}") for path, value in settings.items()]
    course = "; ".join(
        f"from the checkpoint of trial {fork['trial']} after epoch {fork['epoch']}, before that with "
        + " ".join(f"{path}={text(value)}" for path, value in fork["drawn"].items())
        for fork in reversed(trial["lineage"])
    )
    return " ".join(["python -m distcond.train", space["recipe"], *words]) + (f"  # {course}" if course else "")


def text(value: Any) -> str:
    """A value as a command line takes it."""
    if isinstance(value, list | tuple):
        return ",".join(text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
