"""Runs of distcond in a Ray Tune script of one's own: `tune.Tuner(distcond.launch.trainable("float_digits"), ...)`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from distcond.config.overrides import resolve, to_settings
from distcond.launch.ray.placement_group import release_placement_group
from distcond.runs.failures import LaunchFailed
from distcond.tuning.objective import read_objective
from distcond.tuning.ray_backend.drive import NEEDS
from distcond.tuning.ray_backend.leg import Order, Work
from distcond.tuning.ray_backend.sweep import placed, settle


def trainable(
    recipe: str,
    settings: Mapping[str, Any] | None = None,
    objectives: Sequence[str] = ("hypervolume",),
    reference: tuple[float, float] = (0.0, 0.0),
    hang: float = 1800.0,
) -> Callable[[dict[str, Any]], None]:
    """A function trainable whose config is {dotted path: value}: each trial is a run of `distcond.train`.

    It reports `epoch` and every objective under its own name after each validated epoch; use time_attr="epoch", since
    a trial that is taken up again goes on from its run's checkpoint while Tune's own count begins anew. The trial takes
    no core, its Ray Train workers do: set `max_concurrent_trials` to what they have room for, or they wait for each
    other for ever, and leave `reuse_actors` off. Ray's PBT finds no Tune checkpoint here and does not exploit; that is
    what `python -m distcond.tune SPACE scheduler=pbt` is for.

    Args:
        recipe: whose settings hold where nothing else is said.
        settings: of every trial, over the recipe; `run_root` should be an absolute path that all machines share.
        objectives: as those of `distcond.tune`.
        reference: (SA, RA) above which the hypervolume is counted.
        hang: seconds without progress after which a trial fails.

    Raises:
        ConfigError: a setting or an objective that is not valid.
    """
    fixed = {"run_root": str(Path.cwd() / "runs"), **(settings or {})}
    base = settle(resolve(recipe, fixed))
    asked = [list(read_objective(name, base)) for name in objectives]

    def trial(config: dict[str, Any]) -> None:
        settled = settle(resolve(recipe, {**fixed, **config}))
        work = Work(Order(to_settings(settled), str(placed(settled)), 0, asked, list(reference), hang))
        try:
            done = work.done(lambda p: tune.report({"epoch": int(p[0]), **dict(zip(objectives, p[1:], strict=True))}))
        finally:
            if work.thread.is_alive():  # stopped by a scheduler, or hanging: the workers end with this process
                release_placement_group(work.run.path)
                os._exit(1)
        if done.error:
            raise LaunchFailed(done.error)

    return tune.with_resources(trial, NEEDS)
