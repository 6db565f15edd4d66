"""Exact binomial tails: a warning has to be more than the luck of the examples looked at."""

from __future__ import annotations

import math

#: A network that does what an honest one does is given a warning at most this often, by each check.
LEVEL = 1e-3


def upper(count: int, trials: int, share: float) -> float:
    """P(X >= count) for X ~ Binomial(trials, share), `share` in [0, 1]."""
    return min(1.0, math.fsum(_mass(k, trials, share) for k in range(count, trials + 1)))


def paired(only_first: int, only_second: int) -> float:
    """One-sided exact McNemar test: how likely so many examples go to the first alone, were it not the stronger one.

    Examples on which both agree say nothing.
    """
    return upper(only_first, only_first + only_second, 0.5)


def _mass(count: int, trials: int, share: float) -> float:
    return math.comb(trials, count) * share**count * (1 - share) ** (trials - count)
