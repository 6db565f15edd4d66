"""A sweep from its words to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distcond.config.schema import Config
from distcond.data.prepare import infer_from_root, prepare_data
from distcond.errors import ConfigError
from distcond.init_from import initialise
from distcond.launch import driver
from distcond.launch.capacity import Capacity
from distcond.runs.grid import lam_grid
from distcond.runs.run_dir import run_dir_for
from distcond.training.build_trainer import check_trainable
from distcond.tuning.asha import Asha
from distcond.tuning.course import Course, Schedule
from distcond.tuning.inherit import inherited
from distcond.tuning.objective import Objective, read_objective
from distcond.tuning.optuna_search import Optuna, takes_trial
from distcond.tuning.pbt import Rounds, check_live
from distcond.tuning.proposers import Listed, Proposer, Random, grid
from distcond.tuning.ray_backend.drive import check, drive, for_trials
from distcond.tuning.ray_backend.told import Told
from distcond.tuning.space import Space, check_space, imported
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.trial import Trial
from distcond.tuning.words import Words

_log = logging.getLogger(__name__)


def explore(sweep: SweepDir, space: Space, words: Words) -> int:
    """Begin a sweep or go on with it; the exit status: 0, or 1 where every trial failed.

    Raises:
        ConfigError: it cannot be run; nothing has been started then.
        LaunchFailed: Ray failed.
    """
    objectives = [read_objective(name, base(space)) for name in words.objective]
    course = carry(sweep, space, words, proposing(space, words, objectives))
    failed = [trial for trial in course.trials.values() if trial.state == "failed"]
    _log.info(f"{len(course.trials)} trials, {len(failed)} failed; python -m distcond.report {sweep.path}")
    return int(bool(course.trials) and len(failed) == len(course.trials))


def carry(sweep: SweepDir, space: Space, words: Words, proposer: Proposer) -> Course:
    """Carry a sweep out with what `proposer` proposes; the course at its end."""
    config = base(space)
    objectives = [read_objective(name, config) for name in words.objective]
    schedule = scheduled(space, words, config, objectives[0])
    check(config, words)
    with sweep.led():
        if not sweep.trials():
            sweep.begin(space, words)
        sweep.started()
        trials, inherit = count(space, words), _inheriting(sweep, space)
        course = Course(sweep, space, proposer, trials, words.retries, schedule, placed, inherit)
        with Told(course, objectives) as told:
            drive(course, config, words, objectives, sweep.path, told)
    return course


def planned(sweep: SweepDir, space: Space, words: Words, nodes: Sequence[Capacity] = ()) -> str:
    """What a sweep would do on these machines, by default this one: its first trials and where it would lie."""
    config = base(space)
    objectives = [read_objective(name, config) for name in words.objective]
    schedule, proposer = scheduled(space, words, config, objectives[0]), proposing(space, words, objectives)
    check(config, words, nodes)
    first = [proposer.propose(number) for number in range(min(3, count(space, words)))]
    legs = f"{words.scheduler}, first leg of {schedule.first or config.epochs} epochs" if schedule else "whole runs"
    lines = [f"{count(space, words)} trials of {space.recipe}, {config.epochs} epochs, {legs}, in {sweep.path}"]
    return "\n".join([*lines, *(f"  trial {number}: {drawn}" for number, drawn in enumerate(first))])


def base(space: Space) -> Config:
    """The config of the space with nothing drawn, as trials run it."""
    if space.axes:
        check_space(space)
    config = space.config({})
    if config.launch.name != "ray":
        raise ConfigError(f"launch={config.launch.name}: trials run on Ray Train; valid: ray")
    return for_trials(config)


def count(space: Space, words: Words) -> int:
    """Trials asked for; a grid has as many as it has points."""
    if words.search == "grid":
        return min(len(grid(space, words.points)), words.trials or len(grid(space, words.points)))
    return words.trials or space.trials


def proposing(space: Space, words: Words, objectives: list[Objective]) -> Proposer:
    """What proposes trials.

    Raises:
        ConfigError: the search does not go with the space.
    """
    function = imported(space.function) if space.function else None
    if function is not None and takes_trial(function) != (words.search in ("tpe", "nsga2")):
        valid = "search=tpe or nsga2" if takes_trial(function) else "search=random"
        raise ConfigError(f"search={words.search}: the function of {space.name} goes with {valid}")
    if words.search == "grid":
        return Listed(grid(space, words.points))
    if words.search == "random":
        return Random(space, words.search_seed, function)
    return Optuna(space, words.search, objectives, words.search_seed, function)


def scheduled(space: Space, words: Words, config: Config, objective: Objective) -> Schedule:
    """What ends trials early, or changes them.

    Raises:
        ConfigError: it would compare at epochs without a validation, or change what cannot be changed.
    """
    if words.scheduler == "none":
        return None
    name, step = ("grace", words.grace) if words.scheduler == "asha" else ("interval", words.interval)
    every = config.eval.every
    if step >= config.epochs:
        raise ConfigError(f"{name}={step}: not below epochs={config.epochs}, so {words.scheduler} never compares")
    if not every or step % every:
        raise ConfigError(
            f"{name}={step}: no validation then, eval.every={every}; valid: multiples of it, or eval.every=1"
        )
    if words.scheduler == "asha":
        return Asha(config.epochs, words.grace, words.reduction, objective.up)
    check_live(space)
    return Rounds(space, config.epochs, words.interval, words.quantile, objective.up, words.search_seed)


def placed(config: Config) -> Path:
    """The directory of a trial's run: that of the same run by `distcond.train` below the same root."""
    config = settle(config)
    origin = initialise.check_init_from(config)
    driver.check(config)
    lam_grid(config)  # whether sampler and grid fit the method
    found = prepare_data(config.data)
    check_trainable(config, found.sizes["train"])
    content = found.fingerprint
    return run_dir_for(config, content if origin is None else f"{content}+{origin.digest}").path


def settle(config: Config) -> Config:
    """`config` as its trial runs it."""
    return for_trials(replace(config, data=infer_from_root(config.data)))


def _inheriting(sweep: SweepDir, space: Space) -> Callable[[dict[int, Trial], Any], Trial]:
    def inherit(trials: dict[int, Trial], exploit: Any) -> Trial:
        config = settle(space.config({**exploit.drawn, **sweep.fixed(), **sweep.attack()}))
        _log.info(f"trial {exploit.loser}: goes on from trial {exploit.donor}'s checkpoint with {exploit.drawn}")
        return inherited(trials, exploit, config, sweep.path)

    return inherit
