"""The Wilson score interval of an accuracy, and the confidence that the accuracy reaches a level."""

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
        """Half the distance between the bounds. The interval is not symmetric around the accuracy."""
        return (self.high - self.low) / 2


def wilson(num_correct: float, num_examples: float, z: float = Z_95) -> Interval:
    """The interval of `num_correct / num_examples` at `z` standard normal deviates (95 % by default).

    Unlike the normal approximation it stays inside [0, 1] and has a width at 0 and at 1, where the robust accuracies
    of standard networks are. `num_correct` may be fractional: a mean over noise draws.
    """
    assert num_examples > 0
    assert 0 <= num_correct <= num_examples
    p = num_correct / num_examples
    z2 = z * z / num_examples
    centre = (p + z2 / 2) / (1 + z2)
    half = z / (1 + z2) * math.sqrt(p * (1 - p) / num_examples + z2 / (4 * num_examples))
    # At 0 and at 1 a bound equals the accuracy; rounding must not move it past the accuracy.
    return Interval(min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def confidence(num_correct: float, num_examples: float, at_least: float) -> float:
    """The confidence in [0, 1] that the true accuracy is at least `at_least`.

    It is the confidence of the one-sided Wilson interval whose lower bound is `at_least`. It holds for an accuracy that
    was not selected as the best of many: selection makes it too optimistic.
    """
    assert num_examples > 0
    assert 0 <= num_correct <= num_examples
    assert 0 <= at_least <= 1
    margin = num_correct / num_examples - at_least
    spread = math.sqrt(at_least * (1 - at_least) / num_examples)
    if spread == 0:
        # Every accuracy is at least 0. An accuracy of 1 is never certain; without a failure the confidence is 0.5.
        return 1.0 if at_least == 0 else 0.5 * (margin == 0)
    return 0.5 * math.erfc(-margin / spread / math.sqrt(2))
