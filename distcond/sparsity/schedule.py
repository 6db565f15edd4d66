"""The share of the kept weights that one update drops, over the course of a run."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float, float, float], float]


def linear(start: float, end: float, done: float) -> float:
    """From `start` to `end` in a straight line, `done` in [0, 1] of the way."""
    return start + (end - start) * done


def cosine(start: float, end: float, done: float) -> float:
    """From `start` to `end` along half a cosine, `done` in [0, 1] of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


SCHEDULES: dict[str, Schedule] = {"linear": linear, "cosine": cosine}
