"""Optuna as a proposer: TPE, and NSGA-II for several objectives. Its study is rebuilt from the sweep's files."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distcond.errors import ConfigError
from distcond.seeding import key
from distcond.tuning.objective import Objective
from distcond.tuning.proposers import DRAWS, Drawn, drawn_by
from distcond.tuning.space import Space


class Optuna:
    """Asks Optuna for every trial and tells it how each ended.

    Args:
        space: axes, or a function of `optuna.Trial` that defines by running.
        kind: "tpe" or "nsga2".
        objectives: what is compared, and which way.
        seed: of the sampler.
        function: in place of the axes.
    """

    def __init__(
        self,
        space: Space,
        kind: str,
        objectives: Sequence[Objective],
        seed: int,
        function: Callable[..., Any] | None = None,
    ) -> None:
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.kind, self.seed, self.function = space, kind, seed, function
        ways = ["maximize" if one.up else "minimize" for one in objectives]
        self.study = optuna.create_study(directions=ways, sampler=self._sampler(0))
        self.asked: dict[int, Any] = {}
        self.remembered: dict[int, Mapping[str, Any]] = {}
        self.told: dict[int, Mapping[str, Any]] = {}

    def propose(self, number: int, again: int = 0) -> Drawn | None:
        from optuna.trial import TrialState

        if again:
            self.study.tell(self.asked[number], state=TrialState.FAIL)
        if again >= DRAWS:
            return None
        # A fresh sampler for each trial: its draws do not depend on how often the sweep was interrupted.
        self.study.sampler = self._sampler(number, again)
        trial = self.study.ask()
        self.asked[number] = trial
        return drawn_by(self.function or self._suggest, trial)

    def memory(self, number: int) -> dict[str, Any]:
        from optuna.distributions import distribution_to_json

        trial = self.study.trials[self.asked[number].number]
        ways = {name: distribution_to_json(way) for name, way in trial.distributions.items()}
        # NSGA-II keeps its generations there.
        return {"params": dict(trial.params), "ways": ways, "system": dict(trial.system_attrs)}

    def again(self, number: int, memory: Mapping[str, Any]) -> None:
        self.remembered[number] = memory

    def tell(self, number: int, values: Sequence[float], epochs: int, whole: bool) -> None:
        from optuna.trial import TrialState

        if number in self.remembered and not self.remembered[number]:
            return  # it was never proposed: the space's function raised

        state = TrialState.COMPLETE if whole and values else TrialState.PRUNED if values else TrialState.FAIL
        if number in self.told:  # it was stopped, and went on after all
            self.study.add_trial(self._past(self.told[number], values, epochs, state))
            return
        self.told[number] = self.remembered[number] if number in self.remembered else self.memory(number)
        if number in self.remembered:
            self.study.add_trial(self._past(self.remembered[number], values, epochs, state))
        elif state is TrialState.COMPLETE:
            self.study.tell(self.asked[number], list(values))
        else:
            if values and len(self.study.directions) == 1:
                self.asked[number].report(values[0], epochs)
            self.study.tell(self.asked[number], state=state)

    def _past(self, memory: Mapping[str, Any], values: Sequence[float], epochs: int, state: Any) -> Any:
        from optuna.distributions import json_to_distribution
        from optuna.trial import TrialState, create_trial

        return create_trial(
            params=memory["params"],
            distributions={name: json_to_distribution(way) for name, way in memory["ways"].items()},
            system_attrs=memory["system"],
            values=list(values) if state is TrialState.COMPLETE else None,
            intermediate_values={epochs: values[0]} if state is TrialState.PRUNED else None,
            state=state,
        )

    def _suggest(self, trial: Any) -> Drawn:
        drawn: Drawn = {}
        for axis in self.space.axes:
            if not axis.exists(drawn):
                continue
            if axis.kind == "choice":
                # Optuna's categories are plain scalars; a list travels as its text.
                choices = [json.dumps(value) for value in axis.values]
                drawn[axis.path] = json.loads(trial.suggest_categorical(axis.path, choices))
            elif axis.kind == "integer":
                drawn[axis.path] = trial.suggest_int(axis.path, int(axis.low), int(axis.high))
            else:
                drawn[axis.path] = trial.suggest_float(axis.path, axis.low, axis.high, log=axis.kind == "loguniform")
        return drawn

    def _sampler(self, number: int, again: int = 0) -> Any:
        samplers, seed = _optuna().samplers, key(self.seed, "optuna", number, *([again] if again else [])) % 2**32
        if self.kind == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=8)
        if again:  # TPE would propose what it thinks best once more, and that is there
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(seed=seed, n_startup_trials=5)


def takes_trial(function: Callable[..., Any]) -> bool:
    """Whether a space's function wants an `optuna.Trial` (its parameter is called trial), not a torch.Generator.

    Raises:
        ConfigError: it takes something else.
    """
    names = list(inspect.signature(function).parameters)
    if names not in (["trial"], ["generator"]):
        raise ConfigError(f"the space's function takes ({', '.join(names)}); valid: (trial) of Optuna, or (generator)")
    return names == ["trial"]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("search=tpe and nsga2 need Optuna: pip install 'distcond[tune]'; or search=random") from error
    return optuna
