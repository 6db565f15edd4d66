"""Whether a tuned winner is better: by fresh seeds and a stronger attack than the one it was chosen by."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distcond.errors import ConfigError
from distcond.results.pareto import XY, area
from distcond.results.row import Row, accuracy, position
from distcond.tuning.objective import Objective

#: Two-sided 95 % quantiles of Student's t by degrees of freedom; from 10 on, that of 10 is taken: a little too strict.
_T = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

#: Of Kendall's tau: below the one it is called low; with fewer pairs than the other, those of 8 trials, not judged.
LOW, FEW = 0.5, 28


class Verdict(NamedTuple):
    """Mean difference winner - recipe of `name` over pairs with the same seed, and its 95 % interval."""

    mean: float
    low: float
    high: float
    pairs: int
    name: str = "hypervolume"

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    def __str__(self) -> str:
        said = "better" if self.better else "not shown to be better"
        ends = f"95 % interval {self.low:+.4f} to {self.high:+.4f}" if math.isfinite(self.low) else "no interval"
        return f"{said}: {self.name} {self.mean:+.4f} on average over {self.pairs} fresh seeds ({ends})"


def judge(winner: Sequence[float], recipe: Sequence[float], name: str = "hypervolume") -> Verdict:
    """Compare values of `name` of runs that have the same seeds, pair by pair; more is better."""
    differences = [a - b for a, b in zip(winner, recipe, strict=True)]
    count, mean = len(differences), statistics.mean(differences)
    if count < 2:
        return Verdict(mean, -math.inf, math.inf, count, name)
    half = _T[min(count - 1, 10)] * statistics.stdev(differences) / math.sqrt(count)
    return Verdict(mean, mean - half, mean + half, count, name)


class Agreement(NamedTuple):
    """Kendall's tau between two measures of `trials` trials, over the `pairs` that were trained equally long."""

    tau: float
    pairs: int
    trials: int

    def __str__(self) -> str:
        if not self.pairs:
            return f"whether the cheap attack is a good proxy: no two of {self.trials} trials were trained equally long"
        said = "good" if self.tau >= LOW else "low: the cheap attack is a poor proxy here"
        if self.pairs < FEW:
            said = f"fewer than {FEW} pairs are too few to tell; more of them by trials="
        found = f"Kendall's tau {self.tau:+.2f} ({self.trials} trials, {self.pairs} pairs trained equally long)"
        return f"rank agreement of the cheap attack with the strong one: {found}; {said}"


def agreement(looked_at: Sequence[tuple[int, float, float]]) -> Agreement:
    """How far two measures put trials in the same order.

    Only trials with the same epochs are compared: longer training helps under any attack, and would pass for agreement.
    A tie speaks neither for nor against.

    Args:
        looked_at: (epochs, one measure, the other) of each trial.
    """
    signs = [
        (one[1] - other[1]) * (one[2] - other[2])
        for one, other in itertools.combinations(looked_at, 2)
        if one[0] == other[0]
    ]
    tau = sum((sign > 0) - (sign < 0) for sign in signs) / len(signs) if signs else 0.0
    return Agreement(tau, len(signs), len(looked_at))


def check_countable(objective: Objective) -> None:
    """Refuse what rows of an evaluation do not say.

    Raises:
        ConfigError: the objective is no accuracy.
    """
    if objective.kind not in ("hypervolume", "sa", "ra"):
        what = "no accuracy, so no attack can confirm it"
        valid = "a sweep whose first objective is hypervolume, sa@LAM or ra@LAM"
        raise ConfigError(f"objective={objective.name}: {what}; valid: {valid}")


def counted(objective: Objective, rows: Iterable[Row], reference: XY) -> float:
    """An objective by evaluated rows at full width; of several attacks the one that leaves least counts.

    Raises:
        ConfigError: it is no accuracy, or there is no row for it.
    """
    check_countable(objective)
    sa, ra = dict[float, float](), dict[float, float]()
    rows = list(rows)
    widest = max((row.width for row in rows), default=1.0)
    for row in rows:
        if row.width == widest and row.attack == "none":
            sa[position(row)] = accuracy(row)
        elif row.width == widest:
            ra[position(row)] = min(accuracy(row), ra.get(position(row), 1.0))
    if objective.kind == "hypervolume":
        return area([(sa[lam], ra[lam]) for lam in sa if lam in ra], reference)
    found = [value for lam, value in (sa if objective.kind == "sa" else ra).items() if objective.is_at(lam)]
    if not found:
        raise ConfigError(f"objective={objective.name}: the evaluation has no row for it; valid: another attack=")
    return found[0]


def same_order(cheap: Sequence[float], strong: Sequence[float]) -> bool:
    """Whether two measures put trials in the same order."""
    return sorted(range(len(cheap)), key=lambda i: -cheap[i]) == sorted(range(len(strong)), key=lambda i: -strong[i])
