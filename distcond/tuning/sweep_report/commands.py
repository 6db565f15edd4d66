"""The command that repeats a trial."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from distcond.tuning.sweep_report.read import Sweep, run_directory

if TYPE_CHECKING:
    from distcond.config.schema import Config


def command(sweep: Sweep, number: int) -> str:
    """`python -m distcond.train RECIPE PATH=VALUE ...` for a trial.

    A trial that went on from another one's checkpoint is no run of one command: its past is then behind `#`.
    """
    trial = sweep.trials[number]
    # A trial has one worker unless set; a run by itself would take more, each with its own BN statistics.
    fixed = sweep.space["fixed"]
    if not sweep.options and (run := run_directory(trial.run)):  # of a user's own script
        from distcond.runs.run_dir import RunDir  # imports torch

        fixed = settings_over_recipe(RunDir(run).config())
    settings = {"launch.workers": 1, **fixed}
    words = [shlex.quote(f"{path}={text(value)}") for path, value in {**settings, **trial.params}.items()]
    past = "; ".join(
        f"from the checkpoint of trial {fork['trial']} after epoch {fork['epoch']}, before that with "
        + " ".join(f"{path}={text(value)}" for path, value in fork["params"].items())
        for fork in reversed(trial.lineage)
    )
    return " ".join(["python -m distcond.train", sweep.space["recipe"], *words]) + (f"  # {past}" if past else "")


def settings_over_recipe(config: Config) -> dict[str, Any]:
    """The settings in which a config differs from its recipe, so that the recipe and they give it again."""
    from distcond.config.overrides import resolve, to_settings

    wanted, given = to_settings(config), dict[str, Any]()
    for _ in range(2):  # some settings set defaults of others
        got = to_settings(resolve(config.recipe, given))
        given |= {path: value for path, value in wanted.items() if got.get(path, ...) != value}
    return {path: value for path, value in given.items() if path not in ("recipe", "run_root", "fresh", "launch.name")}


def text(value: Any) -> str:
    """A value as a command line takes it."""
    if isinstance(value, list | tuple):
        return ",".join(text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
