"""`distcond.train`: train a run from Python."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from distcond.api.errors import path_errors_as_config_errors
from distcond.api.run import Run
from distcond.config.overrides import check_dial, resolve
from distcond.config.recipe_choice import RecipeChoice, choose_recipe
from distcond.config.schema import Config
from distcond.distributed.rendezvous import rank_from_environment
from distcond.errors import ConfigError
from distcond.launch.ray.cluster import uses_existing_cluster
from distcond.train import execute, prepare_run

_log = logging.getLogger(__name__)


def train(
    recipe: str = "",
    settings: Mapping[str, Any] | None = None,
    *,
    launch: Literal["local", "ray"] | None = None,
    run_root: str | Path | None = None,
    fresh: bool = False,
) -> Run:
    """Train a network whose trade-off between accuracy and robustness is chosen when it is used.

        run = distcond.train("float_digits", {"attack.epsilon": 0.2, "eval.attack.epsilon": 0.2})

    The result is that of `python -m distcond.train` with the same settings and the same launcher. The same settings
    resume a run that was interrupted, and return a finished one without training it again.

    Args:
        recipe: of `distcond.list_recipes()`; "" = `float_digits`, or the one that fits the data set in `settings`.
        settings: {dotted path: value}, as PATH=VALUE on the command line: `{"epochs": 3, "data.root": "~/cifar10"}`.
            `python -m distcond.train RECIPE --help` lists all.
        launch: "local" = in this process (under torchrun: in each of its processes); "ray" = workers on Ray, in a
            cluster that is started for the run unless there is one; None = "ray" where RAY_ADDRESS is set or Ray is
            initialised in this process, otherwise "local".
        run_root: where the run's directory goes, a path or a URI; None = ./runs.
        fresh: start a new run instead of resuming or returning the one with the same settings.

    Returns:
        The finished run.

    Raises:
        ConfigError: an invalid recipe, setting or value, data that cannot be read, or too few resources; one line that
            says what would be right. Raised before training begins, nothing has been written.
        LaunchFailed: the run failed (`distcond.runs.failures`); the same call resumes it.
        RunStopped: SIGTERM or SIGUSR2 stopped it with a checkpoint (`distcond.launch.stopping`).
    """
    with path_errors_as_config_errors():
        prepared = prepare_run(make_config(recipe, settings or {}, launch, run_root, fresh))
        if prepared.run.finished:
            _log.info("already finished: %s; fresh=True trains anew", prepared.run.path)
        execute(prepared)
    return Run(prepared.run.path if prepared.remote is None else prepared.remote.uri)


def make_config(
    recipe: str, settings: Mapping[str, Any], launch: str | None, run_root: str | Path | None, fresh: bool
) -> Config:
    """The config of a call of `train`.

    Raises:
        ConfigError: an invalid recipe, setting or value, or a setting that is given twice.
    """
    arguments = {"launch": launch, "run_root": run_root if run_root is None else str(run_root), "fresh": fresh or None}
    overrides = dict(settings)
    for name, value in arguments.items():
        twice = [path for path in (name, f"{name}.name") if path in overrides and value is not None]
        if twice:
            raise ConfigError(f"{name}={value}: settings have {twice[0]}={overrides[twice[0]]}, too; give it once")
        overrides |= {} if value is None else {name: value}
    # Inside torchrun's processes, Ray would start one run for each, and each would name another new run.
    alone = rank_from_environment().size == 1
    if overrides.get("fresh") and not alone:
        raise ConfigError("fresh=True: not within torchrun; valid: python -m distcond.train fresh=true under torchrun")
    if not {"launch", "launch.name"} & overrides.keys():
        overrides["launch"] = "ray" if alone and uses_existing_cluster() else "local"
    choice = RecipeChoice(recipe) if recipe else choose_recipe(overrides)
    if choice.why:
        _log.info(choice.why)
    config = resolve(choice.recipe, overrides)
    check_dial(config, overrides)
    return config
