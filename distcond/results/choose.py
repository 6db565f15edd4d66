"""Choose an operating point: the cheapest with SA at least a and RA at least r, and what is said about a field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from distcond.errors import ConfigError
from distcond.results.interval import confidence
from distcond.results.operating import Operating
from distcond.results.series import Score


class Demand(NamedTuple):
    """What a point must reach, in [0, 1]; None = no demand. `sure`: the 95 % interval must, not just the estimate."""

    sa: float | None = None
    ra: float | None = None
    sure: bool = False

    def __str__(self) -> str:
        levels = [
            f"{name} >= {100 * level:g} %" for name, level in (("SA", self.sa), ("RA", self.ra)) if level is not None
        ]
        return (" and ".join(levels) or "no demand") + (", at the intervals' lower ends" if self.sure else "")


def cheapest(points: Sequence[Operating], demand: Demand) -> Operating | None:
    """The point that meets the demand with the fewest FLOPs, or None.

    Points of unknown cost come last. Of equally cheap ones the best in what was not demanded is taken; if both or
    neither were, the one with the highest SA + RA; then the first given.
    """
    found = [point for point in points if meets(point, demand)]
    return min(found, key=lambda point: (_price(point), -_merit(point, demand)), default=None)


def meets(point: Operating, demand: Demand) -> bool:
    """Whether the point reaches the demanded levels."""
    return all(reached(score, demand.sure) >= level for score, level in _levels(point, demand))


def sureness_of(point: Operating, demand: Demand) -> float:
    """How surely the point meets the demand, in [0, 1]: at least this for SA and RA together, whatever ties them."""
    pairs = _levels(point, demand)
    doubts = (1 - confidence(s.num_correct / s.draws, s.examples_per_draw, level) for s, level in pairs)
    return max(0.0, 1 - sum(doubts))


def nearest_miss(points: Sequence[Operating], demand: Demand) -> Operating:
    """The point that falls short of the demand by least, counted by the accuracy that misses most."""

    def shortfall(point: Operating) -> float:
        return max((level - reached(score, demand.sure) for score, level in _levels(point, demand)), default=0.0)

    return min(points, key=shortfall)


def read_level(name: str, text: str) -> float:
    """An accuracy in [0, 1] from "0.3" or "30%".

    Raises:
        ConfigError: no such number.
    """
    percent = text.strip().endswith("%")
    try:
        level = float(text.strip().rstrip("%")) / (100 if percent else 1)
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        raise ConfigError(f"{name}={text}: expected an accuracy, such as 0.3 or 30%")
    return level


def _levels(point: Operating, demand: Demand) -> list[tuple[Score, float]]:
    pairs = ((point.sa, demand.sa), (point.ra, demand.ra))
    return [(score, level) for score, level in pairs if level is not None]


def reached(score: Score, sure: bool) -> float:
    """What counts against a level: the accuracy, or the lower end of its interval."""
    return score.interval.low if sure else score.accuracy


def _price(point: Operating) -> float:
    return float("inf") if point.flops is None else point.flops


def _merit(point: Operating, demand: Demand) -> float:
    free = [score for score, level in ((point.sa, demand.sa), (point.ra, demand.ra)) if level is None]
    return sum(score.accuracy for score in free or (point.sa, point.ra))
