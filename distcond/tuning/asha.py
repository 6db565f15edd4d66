"""Asynchronous successive halving (Li et al. 2018, arXiv 1810.05934), the form that promotes.

Every trial is trained for `grace` epochs. One in `reduction` of those that reached a rung goes on to the next, at
`reduction` times the epochs, from its checkpoint; nobody waits for a rung to be full. Never more than that share is
promoted, and when nothing else is left to do the best of the highest rung goes on, so that one trial always ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from distcond.tuning.trial import Leg, Trial


class Asha:
    """Says which trial goes on.

    Args:
        epochs: of a whole run.
        grace: of every trial.
        reduction: one in so many goes on.
        up: whether more of the objective is better.
    """

    def __init__(self, epochs: int, grace: int, reduction: int, up: bool) -> None:
        self.rungs, self.reduction, self.up = rungs(epochs, grace, reduction), reduction, up

    @property
    def first(self) -> int:
        """Epochs of a new trial's first leg; 0 = to the end."""
        return self.rungs[0] if self.rungs else 0

    def promote(self, trials: Mapping[int, Trial], idle: bool) -> Leg | None:
        """The trial to go on with, if one has earned it. `idle`: nothing runs and nothing new is left."""
        for level in reversed(range(len(self.rungs))):
            leg = self._from(level, trials.values())
            if leg is not None:
                return leg
        if idle and not any(trial.state == "finished" for trial in trials.values()):
            return self._last_resort(trials)
        return None

    def _from(self, level: int, trials: Iterable[Trial]) -> Leg | None:
        reached = self._reached(level, trials)
        beyond = [trial for trial in reached if trial.epochs > self.rungs[level] or trial.state == "running"]
        room = len(reached) // self.reduction
        # By number where two are equal: any rule will do, but the same one after a restart.
        ranked = sorted(reached, key=lambda trial: (-self._merit(trial, level), trial.number))[:room]
        waiting = [trial for trial in ranked if trial.state == "stopped" and trial.epochs == self.rungs[level]]
        return Leg(waiting[0].number, self._next(level)) if waiting and len(beyond) < room else None

    def _last_resort(self, trials: Mapping[int, Trial]) -> Leg | None:
        for level in reversed(range(len(self.rungs))):
            here = [t for t in self._reached(level, trials.values()) if t.state == "stopped"]
            if here:
                best = min(here, key=lambda trial: (-self._merit(trial, level), trial.number))
                return Leg(best.number, self._next(level))
        return None

    def _reached(self, level: int, trials: Iterable[Trial]) -> list[Trial]:
        found = []
        for trial in trials:
            at = trial.value_at(self.rungs[level])
            # One that failed further on has still shown what it was worth here.
            if trial.epochs >= self.rungs[level] and at is not None:
                found.append(trial)
        return found

    def _merit(self, trial: Trial, level: int) -> float:
        value = trial.value_at(self.rungs[level])
        assert value is not None
        return value if self.up else -value

    def _next(self, level: int) -> int:
        return self.rungs[level + 1] if level + 1 < len(self.rungs) else 0


def rungs(epochs: int, grace: int, reduction: int) -> tuple[int, ...]:
    """Epochs at which trials are compared: below those of a whole run."""
    found = []
    while grace < epochs:
        found.append(grace)
        grace *= reduction
    return tuple(found)
