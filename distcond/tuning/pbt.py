"""Population-based training (Jaderberg et al. 2017, arXiv 1711.09846), in rounds.

All trials are trained for `interval` epochs. Then each of the worst takes over the checkpoint and the settings of one
of the best, and changes the settings. Rounds, and a seed for every choice: the same population gives the same course,
however often it was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from distcond.errors import ConfigError
from distcond.seeding import generator
from distcond.tuning.space import Space
from distcond.tuning.trial import Trial

#: Settings that still act on a run that has begun: others shape its network or its start.
LIVE = (
    "optim.lr", "optim.momentum", "optim.weight_decay", "optim.nesterov", "optim.schedule", "optim.milestones",
    "optim.drop_factor", "optim.warmup", "optim.awp_gamma", "attack.", "sampler.", "data.cutmix", "data.augment",
    "label_smoothing", "method.beta",
)  # fmt: skip

#: Share of the changes that are fresh draws instead of steps.
RESAMPLED = 0.25


class Exploit(NamedTuple):
    """Trial `loser` goes on from the checkpoint of `donor` with `drawn`."""

    loser: int
    donor: int
    drawn: dict[str, Any]


class Round(NamedTuple):
    """What happens between two rounds: exploits, then all others go on as they are, until so many epochs (0 = end)."""

    exploits: list[Exploit]
    others: list[int]
    until: int


class Rounds:
    """Says when a round is over and what comes of it.

    Args:
        space: what varies.
        epochs: of a whole run.
        interval: epochs of a round.
        quantile: share that is replaced.
        up: whether more of the objective is better.
        seed: of every choice.
    """

    def __init__(self, space: Space, epochs: int, interval: int, quantile: float, up: bool, seed: int) -> None:
        self.space, self.epochs, self.interval = space, epochs, interval
        self.quantile, self.up, self.seed = quantile, up, seed
        self.first = self._end(interval)

    def between(self, trials: Mapping[int, Trial]) -> Round | None:
        """What to do now that nothing runs; None while somebody has still to get there, or where all is over."""
        stopped = [trial for trial in trials.values() if trial.state == "stopped"]
        if not stopped:
            return None
        end = max(trial.epochs for trial in stopped)
        # Those that a killed process had already dealt with wait to go beyond this end: they count, and are done.
        waiting = [trial for trial in trials.values() if trial.state == "waiting"]
        if not all(_reached(trial, end) for trial in waiting):
            return None
        here = [*stopped, *waiting]
        found = exploits(self.space, here, end, self.quantile, self.up, self.seed)
        left = [exploit for exploit in found if trials[exploit.loser].state == "stopped"]
        losers = {exploit.loser for exploit in found}
        others = [trial.number for trial in stopped if trial.number not in losers]
        return Round(left, others, self._end(end + self.interval))

    def _end(self, epochs: int) -> int:
        return epochs if epochs < self.epochs else 0


def _reached(trial: Trial, end: int) -> bool:
    return trial.epochs >= end and trial.value_at(end) is not None


def check_live(space: Space) -> None:
    """Refuse a space whose mutations would do nothing.

    Raises:
        ConfigError: one of its settings acts only at the start of a run.
    """
    if not space.axes:
        raise ConfigError(f"scheduler=pbt: {space.name} is a function, of which nothing can be changed; valid: asha")
    for axis in space.axes:
        if not any(axis.path == name or (name.endswith(".") and axis.path.startswith(name)) for name in LIVE):
            what = f"{axis.path} acts at the start of a run only, so changing it later does nothing"
            raise ConfigError(f"scheduler=pbt: {what}; valid: {', '.join(LIVE)}")
        if axis.when:
            raise ConfigError(f"scheduler=pbt: space {axis.path} has a condition; valid: axes without when")


def exploits(space: Space, trials: Sequence[Trial], epochs: int, quantile: float, up: bool, seed: int) -> list[Exploit]:
    """Who takes over from whom after a round that ended at `epochs`; `trials` are those that reached it."""
    ranked = sorted(trials, key=lambda trial: (_merit(trial, epochs, up), -trial.number))
    share = min(math.ceil(len(ranked) * quantile), len(ranked) // 2)
    worst, best = ranked[:share], ranked[len(ranked) - share :]
    return [_exploit(space, loser, best, epochs, seed) for loser in sorted(worst, key=lambda trial: trial.number)]


def mutated(space: Space, drawn: Mapping[str, Any], source: torch.Generator) -> dict[str, Any]:
    """`drawn` with every setting moved or, one time in four, drawn afresh."""
    changed = dict(drawn)
    for axis in space.axes:
        fresh, moved = axis.draw(source), axis.moved(drawn[axis.path], source)
        changed[axis.path] = fresh if torch.rand((), generator=source).item() < RESAMPLED else moved
    return changed


def _exploit(space: Space, loser: Trial, best: Sequence[Trial], epochs: int, seed: int) -> Exploit:
    source = generator(seed, "exploit", loser.number, epochs)
    donor = best[int(torch.randint(len(best), (), generator=source))]
    return Exploit(loser.number, donor.number, mutated(space, donor.drawn, source))


def _merit(trial: Trial, epochs: int, up: bool) -> float:
    value = trial.value_at(epochs)
    assert value is not None, trial
    return value if up else -value
