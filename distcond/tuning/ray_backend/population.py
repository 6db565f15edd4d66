"""Population-based training (Jaderberg et al. 2017, arXiv 1711.09846), in rounds, as a scheduler of Ray Tune."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from distcond.errors import ConfigError
from distcond.seeding import generator
from distcond.tuning.points import MAX_DRAWS, Point, run_key
from distcond.tuning.space import Space

#: Share of the changed settings that are drawn afresh; the others move (Jaderberg et al. 2017, section 4.1).
RESAMPLED = 0.25

#: Attribute of a Ray trial for its past in the population; plain JSON, which Ray stores with the trial's state.
PAST = "distcond_population"

_log = logging.getLogger(__name__)


class SynchronousPopulation(FIFOScheduler):
    """All trials train for `interval` epochs; then each of the worst takes over from one of the best.

    A child gets weights and optimiser of its parent's checkpoint and the parent's settings, changed. Ray's own
    `PopulationBasedTraining` draws without a seed and loses its scores and its rhythm with the process, waits for ever
    for a trial that fails, and may find no checkpoint to exploit. Here a round begins when every live trial is paused
    with its checkpoint, draws by seed, trial and epoch, and leaves what it did in the trials' own stored state.

    Args:
        space: what varies.
        interval: epochs of a round.
        quantile: share of the trials that is replaced.
        seed: of every choice.
        concurrent: trials at a time; 0 = as many as Ray has resources for.
        time_attr: of a result: its epoch.
    """

    def __init__(
        self,
        space: Space,
        interval: int = 1,
        quantile: float = 0.25,
        seed: int = 0,
        concurrent: int = 0,
        time_attr: str = "epoch",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._space, self._interval, self._quantile, self._seed = space, interval, quantile, seed
        self._concurrent, self._time_attr, self._sign = concurrent, time_attr, 1.0
        self._barrier = interval
        self._known: set[str] = set()

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take over what is compared."""
        self._sign = -1.0 if mode == "min" else 1.0
        return bool(super().set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Hold a new or restored trial until `choose_trial_to_run` starts it: Ray starts pending ones by itself."""
        if trial.trial_id in self._known:  # a retry, which resumes at once
            return
        past = _past(trial)
        past.setdefault("number", len(self._known))
        self._known.add(trial.trial_id)
        self._barrier = max(self._barrier, past.setdefault("barrier", self._interval))
        if not trial.is_finished():
            trial.set_status(Trial.PAUSED)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Pause at the end of a round."""
        return str(TrialScheduler.PAUSE if result[self._time_attr] >= self._barrier else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The next trial of this round; when all have reached its end, of the next one."""
        # A trial that failed stays among Ray's live ones.
        live = sorted((t for t in tune_controller.get_live_trials() if not t.is_finished()), key=_number)
        waiting = [trial for trial in live if trial.status == Trial.PAUSED]
        if live and tune_controller.search_alg.is_finished() and len(waiting) == len(live) and not self._below(waiting):
            self._exploit_worst(waiting)
            for trial in waiting:  # else Ray stores a trial's state only with its next result
                tune_controller._tune_controller._mark_trial_to_checkpoint(trial)
        active = [trial for trial in live if trial.status in (Trial.RUNNING, Trial.PENDING)]
        if self._concurrent and len(active) >= self._concurrent:
            return next((trial for trial in active if trial.status == Trial.PENDING), None)
        return next(iter(self._below(waiting)), None) or next((t for t in active if t.status == Trial.PENDING), None)

    def _below(self, trials: Sequence[Any]) -> list[Any]:
        """Those that have not reached the end of the round."""
        return [trial for trial in trials if _epoch(trial, self._time_attr) < self._barrier]

    def _exploit_worst(self, trials: Sequence[Any]) -> None:
        end = self._barrier
        ranked = sorted(trials, key=lambda trial: (self._merit(trial), -_number(trial)))
        share = min(math.ceil(len(ranked) * self._quantile), len(ranked) // 2)
        best = ranked[len(ranked) - share :]
        for child in sorted(ranked[:share], key=_number):
            source = generator(self._seed, "exploit", _number(child), end)
            self._exploit(child, best[int(torch.randint(len(best), (), generator=source))], source)
        while not self._below(trials):
            self._barrier += self._interval
        for trial in trials:
            _past(trial)["barrier"] = self._barrier
            trial.invalidate_json_state()

    def _exploit(self, child: Any, parent: Any, source: torch.Generator) -> None:
        point = self._change(parent.config, source)
        if point is None:
            _log.warning(
                f"trial {_number(child)}: no change of trial {_number(parent)}'s settings fits; it goes on alone"
            )
            return
        result = parent.last_result
        _past(child).setdefault("lineage", []).append(
            {
                "epoch": result[self._time_attr],
                "trial": _number(parent),
                "run_dir": result.get("run_dir", ""),
                "train_flops": result.get("train_flops", 0.0),
                "params": dict(child.config),
            }
        )
        _log.info(f"trial {_number(child)} continues from trial {_number(parent)} with {point}")
        child.set_config(point)
        # As Ray's own population-based training does: what the trial restores when it runs again.
        latest = copy.copy(parent.latest_checkpoint_result)
        latest.metrics = dict(latest.metrics)
        child.run_metadata.checkpoint_manager._latest_checkpoint_result = latest
        child.run_metadata.invalidate_cache()

    def _change(self, point: Point, source: torch.Generator) -> Point | None:
        """A valid change of a parent's settings. With the same settings a child would train its parent's run again."""
        present = run_key(self._space, point)
        for _ in range(MAX_DRAWS):
            changed = mutate(self._space, point, source)
            with suppress(ConfigError):  # changed settings need not fit each other
                if run_key(self._space, changed) != present:
                    return changed
        return None

    def _merit(self, trial: Any) -> float:
        value = self._sign * float(trial.last_result.get(self._metric, math.nan))
        return -math.inf if math.isnan(value) else value


def mutate(space: Space, point: Point, source: torch.Generator) -> Point:
    """A point near another: every setting moved or, with probability `RESAMPLED`, drawn afresh."""
    changed = dict(point)
    for axis in space.axes:
        fresh, moved = axis.draw(source), axis.moved(point[axis.path], source)
        changed[axis.path] = fresh if torch.rand((), generator=source).item() < RESAMPLED else moved
    return changed


def _past(trial: Any) -> dict[str, Any]:
    if not hasattr(trial, PAST):
        setattr(trial, PAST, {})
    past: dict[str, Any] = getattr(trial, PAST)
    return past


def _number(trial: Any) -> int:
    return int(_past(trial)["number"])


def _epoch(trial: Any, time_attr: str) -> int:
    """Epochs that a paused trial has behind it: those of the checkpoint it resumes at."""
    latest = trial.latest_checkpoint_result
    return int(latest.metrics.get(time_attr, 0)) if latest is not None else 0
