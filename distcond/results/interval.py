"""The Wilson score interval of an accuracy."""

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
