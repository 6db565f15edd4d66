"""TPE, and NSGA-II for several objectives: Ray's `OptunaSearch` with define-by-run spaces."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from distcond.errors import ConfigError
from distcond.seeding import key
from distcond.tuning.axis import Axis
from distcond.tuning.objective import Objective
from distcond.tuning.options import SweepOptions, keyword_arguments
from distcond.tuning.points import MAX_DRAWS, Point, call_space, report_exhausted, run_key, takes_trial
from distcond.tuning.space import Space, imported

_log = logging.getLogger(__name__)


class DistinctOptunaSearch(OptunaSearch):
    """Ray's `OptunaSearch` for a sweep's space.

    It differs in three ways. A proposal that is no config, or whose run is an earlier trial's, is told to the study as
    failed and replaced by a random one, up to `MAX_DRAWS` times; then the space counts as exhausted. Names that a space
    function gives to Optuna do not become settings. A trial that an older saved state of the search does not know is
    ignored; Ray's class would end the sweep.

    Raises:
        ConfigError: no Optuna, invalid `search_options`, a function of another search, or a first point that is no
            config.
    """

    def __init__(self, space: Space, options: SweepOptions, objectives: Sequence[Objective]) -> None:
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.options, self.keys = space, options, list[str]()
        self.seed = key(options.search_seed, "optuna") % 2**32
        given = keyword_arguments("search_options", options.search_options)
        given = {"seed": self.seed, **({"population_size": 8} if options.search == "nsga2" else {}), **given}
        given = {**({"n_startup_trials": 5} if options.search == "tpe" else {}), **given}
        samplers = {"tpe": optuna.samplers.TPESampler, "nsga2": optuna.samplers.NSGAIISampler}
        try:
            sampler = samplers[options.search](**given)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"search_options={','.join(options.search_options)}: {error}") from error
        names, modes = [one.name for one in objectives], ["max" if one.up else "min" for one in objectives]
        several = len(objectives) > 1
        super().__init__(
            DefineByRun(space),
            metric=names if several else names[0],
            mode=modes if several else modes[0],
            sampler=sampler,
        )
        self._check_first_point(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=self.seed)).ask())

    def _check_first_point(self, trial: Any) -> None:
        function = imported(self.space.function) if self.space.function else None
        if function is not None and not takes_trial(function):
            raise ConfigError(f"search={self.options.search}: {self.space.name} takes a generator; valid: random")
        run_key(self.space, DefineByRun(self.space).propose(trial))

    def suggest(self, trial_id: str) -> Any:
        """The next point."""
        optuna, study = _optuna(), self._study
        sampler = study.sampler
        try:
            for attempt in range(MAX_DRAWS):
                point: Any = super().suggest(trial_id)
                if self._is_new(point):
                    return point
                study.tell(self._ot_trials.pop(trial_id), state=optuna.trial.TrialState.FAIL)
                # Optuna would repeat what it holds for the best.
                seed = key(self.seed, len(self.keys), attempt) % 2**32
                study.sampler = optuna.samplers.RandomSampler(seed=seed)
        finally:
            study.sampler = sampler
        report_exhausted(self.space.name, len(self.keys), self.options.trials or self.space.trials)
        return Searcher.FINISHED

    @property
    def _study(self) -> Any:
        return self._ot_study

    def _is_new(self, point: Point) -> bool:
        try:
            found = run_key(self.space, point)
        except ConfigError as error:
            _log.warning(f"{error}; drawn again")
            return False
        if found in self.keys:
            return False
        self.keys.append(found)
        return True

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch to the study."""
        if trial_id in self._ot_trials:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Report the end of a trial to the study; one that a scheduler stopped counts with its last value."""
        if trial_id in self._ot_trials:
            super().on_trial_complete(trial_id, result, error)


class DefineByRun:
    """A space as the define-by-run function of `OptunaSearch`; an object, since Ray saves the search with pickle."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def __call__(self, captor: Any) -> Point:
        # Ray's wrapper would add every name that is suggested to the settings.
        return self.propose(captor.ot_trial)

    def propose(self, trial: Any) -> Point:
        """The point of an `optuna.Trial`."""
        if self.space.function:
            return call_space(imported(self.space.function), trial)
        point: Point = {}
        for axis in self.space.axes:
            if axis.exists(point):
                point[axis.path] = _suggest(trial, axis)
        return point


def _suggest(trial: Any, axis: Axis) -> Any:
    if axis.kind == "choice":
        # Optuna's categories are plain scalars; a list goes in as its text.
        return json.loads(trial.suggest_categorical(axis.path, [json.dumps(value) for value in axis.values]))
    if axis.kind == "integer":
        return trial.suggest_int(axis.path, int(axis.low), int(axis.high))
    return trial.suggest_float(axis.path, axis.low, axis.high, log=axis.kind == "loguniform")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("search=tpe and nsga2 need Optuna: pip install 'distcond[tune]'; or search=random") from error
    return optuna
