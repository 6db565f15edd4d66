"""Ray Tune's schedulers for a sweep: by their short names, by distcond's own names, or by their class."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from ray.air.constants import EXPR_RESULT_FILE
from ray.tune.schedulers import SCHEDULER_IMPORT, ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.utils import flatten_dict

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.seeding import generator
from distcond.tuning.checks import check_live, check_schedule
from distcond.tuning.options import SweepOptions, keyword_arguments
from distcond.tuning.ray_backend.population import SynchronousPopulation
from distcond.tuning.ray_backend.searchers import construct, domain, load_class
from distcond.tuning.space import Space

TIME = "epoch"
#: Of a result: completed epochs at the checkpoint at which a restart of its trial resumes.
SAVED = "saved_epochs"

#: Trials end by themselves: a method with a search stage trains for more than `epochs`.
_RUN_TO_END = {"stop_last_trials": False}

_RAY: dict[str, Any] = {**SCHEDULER_IMPORT, "median": MedianStoppingRule}


def build_scheduler(options: SweepOptions, space: Space, config: Config) -> TrialScheduler:
    """The scheduler of a sweep; `tune.TuneConfig` gives it metric and mode.

    Args:
        options: of the sweep.
        space: what varies.
        config: of a trial with nothing drawn: its epochs and validations.

    Raises:
        ConfigError: arguments that the class rejects, a missing library, or what `check_schedule` refuses.
    """
    check_schedule(options, space, config)
    given = keyword_arguments("scheduler_options", options.scheduler_options)
    if options.scheduler == "none":
        return FIFOScheduler()
    if options.scheduler == "pbt":
        arguments: dict[str, Any] = {
            "interval": options.interval,
            "quantile": options.quantile,
            "concurrent": options.concurrent,
        }
        arguments |= {"space": space, "seed": options.search_seed}
        return construct("scheduler", "pbt", SynchronousPopulation, {**arguments, **given})
    if options.scheduler == "asha":
        rungs = {"grace_period": options.grace, "reduction_factor": options.reduction, "brackets": options.brackets}
        arguments = {"time_attr": TIME, "max_t": config.epochs, "seed": options.search_seed, **rungs, **_RUN_TO_END}
        return construct("scheduler", "asha", RestorableASHA, {**arguments, **given})
    return _ray_scheduler(options, space, config, given)


def pauses_trials(scheduler: TrialScheduler) -> bool:
    """Whether a scheduler pauses trials until others arrive: then a limit to live trials could wait for ever."""
    return not (type(scheduler) is FIFOScheduler or isinstance(scheduler, ASHAScheduler | MedianStoppingRule))


class RestorableASHA(ASHAScheduler):
    """Ray's ASHA, whose rungs survive the end of the process.

    `Tuner.restore` brings a scheduler back as it was before the first trial (ray issue 30838). Here each trial that is
    added brings along its results up to the epoch at which it resumes, and a trial's bracket is a function of its ID.

    Args:
        seed: of the choice of brackets.
        arguments: those of `ASHAScheduler`.
    """

    def __init__(self, seed: int = 0, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._seed = seed

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Put a trial in its bracket, with the results that it has already."""
        super().on_trial_add(tune_controller, trial)
        bracket, metric = self._brackets[self._index(trial.trial_id)], str(self._metric)
        self._trial_info[trial.trial_id] = bracket
        for result in results_before(trial, TIME):
            if self._time_attr in result and metric in result:
                bracket.on_result(trial, result[self._time_attr], self._metric_op * result[metric])

    def _index(self, trial_id: str) -> int:
        """Ray's distribution over brackets, a softmax of their numbers of rungs, drawn by the trial's ID."""
        sizes = torch.tensor([float(len(bracket._rungs)) for bracket in self._brackets])
        source = generator(self._seed, "bracket", trial_id)
        return int(torch.multinomial(torch.softmax(sizes, 0), 1, generator=source))


def results_before(trial: Any, time_attr: str) -> Iterator[Mapping[str, Any]]:
    """A trial's results, from where the experiment is stored, up to the time at which the trial resumes.

    Of a trial that has ended these are all. A run has checkpoints of its own, which may be later than Ray's.
    """
    if not trial.has_reported_at_least_once:
        return
    # The file may be a little older than the trial's state.
    results = [*_stored_results(trial), flatten_dict(trial.last_result)]
    end = math.inf
    if not trial.is_finished():
        checkpoint = trial.latest_checkpoint_result
        saved = [result.get(SAVED, 0) for result in results]
        end = max([*saved, checkpoint.metrics.get(time_attr, 0) if checkpoint is not None else 0])
    for result in results:
        if result.get(time_attr, math.inf) <= end:
            yield result


def _stored_results(trial: Any) -> Iterator[dict[str, Any]]:
    path = f"{trial.storage.trial_fs_path}/{EXPR_RESULT_FILE}"
    try:
        with trial.storage.storage_filesystem.open_input_stream(path) as file:
            lines = file.readall().decode("utf-8", "replace").splitlines()
    except OSError:  # nothing was stored before the process was killed
        return
    for line in lines:
        with suppress(ValueError):  # the line at which it was killed
            result = json.loads(line)
            if isinstance(result, dict):
                yield flatten_dict(result)


def _ray_scheduler(options: SweepOptions, space: Space, config: Config, given: Mapping[str, Any]) -> TrialScheduler:
    """One of Ray's, or a user's, with the arguments among these that its class has."""
    name = options.scheduler
    wanted = load_class("scheduler", name, TrialScheduler) if "." in name or ":" in name else _RAY[name]
    if inspect.isfunction(wanted):  # Ray imports it late
        try:
            wanted = wanted()
        except ImportError as error:
            raise ConfigError(f"scheduler={name}: {error}; install its library") from error
    accepted = inspect.signature(wanted).parameters
    arguments: dict[str, Any] = {"time_attr": TIME, "max_t": config.epochs, "grace_period": options.grace}
    arguments |= {**_RUN_TO_END, "reduction_factor": options.reduction, "brackets": options.brackets}
    arguments |= {"perturbation_interval": options.interval, "quantile_fraction": options.quantile}
    if "hyperparam_mutations" in accepted:
        check_live(space)
        arguments["hyperparam_mutations"] = {axis.path: domain(axis) for axis in space.axes}
    if "hyperparam_bounds" in accepted:
        check_live(space)
        choices = [axis.path for axis in space.axes if axis.kind == "choice"]
        if choices:
            raise ConfigError(f"scheduler={name}: space {choices[0]} is a choice, which has no bounds; valid: pbt")
        arguments["hyperparam_bounds"] = {axis.path: [axis.low, axis.high] for axis in space.axes}
    usable = {argument: value for argument, value in arguments.items() if argument in accepted}
    return construct("scheduler", name, wanted, {**usable, **given})
