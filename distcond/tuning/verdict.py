"""Whether a tuned winner is better: by fresh seeds and a stronger attack than the one it was chosen by."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distcond.results.pareto import XY, area
from distcond.results.row import Row, accuracy

#: Two-sided 95 % quantiles of Student's t by degrees of freedom; from 10 on, that of 10 is taken: a little too strict.
_T = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Verdict(NamedTuple):
    """Mean difference winner - recipe over pairs with the same seed, and its 95 % interval."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    def __str__(self) -> str:
        said = "better" if self.better else "not shown to be better"
        ends = f"95 % interval {self.low:+.4f} to {self.high:+.4f}" if math.isfinite(self.low) else "no interval"
        return f"{said}: hypervolume {self.mean:+.4f} on average over {self.pairs} fresh seeds ({ends})"


def judge(winner: Sequence[float], recipe: Sequence[float]) -> Verdict:
    """Compare values of runs that have the same seeds, pair by pair."""
    differences = [a - b for a, b in zip(winner, recipe, strict=True)]
    count, mean = len(differences), statistics.mean(differences)
    if count < 2:
        return Verdict(mean, -math.inf, math.inf, count)
    half = _T[min(count - 1, 10)] * statistics.stdev(differences) / math.sqrt(count)
    return Verdict(mean, mean - half, mean + half, count)


def volume(rows: Iterable[Row], reference: XY) -> float:
    """The hypervolume of evaluated rows at full width; of several attacks the one that leaves least counts."""
    sa, ra = dict[float, float](), dict[float, float]()
    rows = list(rows)
    widest = max((row.width for row in rows), default=1.0)
    for row in rows:
        if row.width == widest and row.attack == "none":
            sa[row.lam] = accuracy(row)
        elif row.width == widest:
            ra[row.lam] = min(accuracy(row), ra.get(row.lam, 1.0))
    return area([(sa[lam], ra[lam]) for lam in sa if lam in ra], reference)


def same_order(cheap: Sequence[float], strong: Sequence[float]) -> bool:
    """Whether two measures put trials in the same order."""
    return sorted(range(len(cheap)), key=lambda i: -cheap[i]) == sorted(range(len(strong)), key=lambda i: -strong[i])
