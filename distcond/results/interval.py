"""The Wilson score interval of an accuracy, and how surely the accuracy reaches a level."""

from __future__ import annotations

import math
from typing import NamedTuple

Z_95 = 1.959963984540054


class Interval(NamedTuple):
    """Bounds of an accuracy, fractions in [0, 1]."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the distance between the bounds; the interval is not symmetric around the accuracy."""
        return (self.high - self.low) / 2


def wilson(num_correct: float, num_examples: float, z: float = Z_95) -> Interval:
    """Interval of `num_correct / num_examples` at `z` standard normal deviates (95 % by default).

    Unlike the normal approximation it stays inside [0, 1] and keeps a width at 0 and at 1, where robust accuracies
    of standard networks lie. `num_correct` may be fractional: a mean over noise draws.
    """
    assert num_examples > 0
    assert 0 <= num_correct <= num_examples
    p = num_correct / num_examples
    z2 = z * z / num_examples
    centre = (p + z2 / 2) / (1 + z2)
    half = z / (1 + z2) * math.sqrt(p * (1 - p) / num_examples + z2 / (4 * num_examples))
    # At 0 and at 1 a bound is the accuracy itself, and rounding must not put it on the wrong side.
    return Interval(min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def confidence(num_correct: float, num_examples: float, at_least: float) -> float:
    """How surely the accuracy behind the counts is at least `at_least`: the confidence in [0, 1] of the one-sided
    Wilson interval whose lower bound is just that.

    One number for one accuracy that was not picked out of many: the best of many looks surer than it is.
    """
    assert num_examples > 0
    assert 0 <= num_correct <= num_examples
    assert 0 <= at_least <= 1
    margin = num_correct / num_examples - at_least
    spread = math.sqrt(at_least * (1 - at_least) / num_examples)
    if spread == 0:
        # Every accuracy is at least 0; that it is 1 can never be sure, and is as likely as not where none failed.
        return 1.0 if at_least == 0 else 0.5 * (margin == 0)
    return 0.5 * math.erfc(-margin / spread / math.sqrt(2))
