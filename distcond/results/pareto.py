"""Which operating points are worth having: the Pareto set, what it dominates, and its knee.

More SA is better, more RA is better, and fewer FLOPs are better where all points say how many they take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distcond.results.comparison import MeasuredPoint
from distcond.results.interval import Interval

XY = tuple[float, float]


class Hypervolume(NamedTuple):
    """A hypervolume in [0, 1], and what it is with every accuracy at the lower or the upper end of its interval."""

    value: float
    ends: Interval


def pareto_set(points: Sequence[MeasuredPoint]) -> list[MeasuredPoint]:
    """The points that no other beats by the accuracies as measured, in the order given; equal points are all in."""
    goals = _goals(points)
    return [
        point for point, mine in zip(points, goals, strict=True) if not any(_dominates(other, mine) for other in goals)
    ]


def possibly_pareto(points: Sequence[MeasuredPoint]) -> list[MeasuredPoint]:
    """The points outside the Pareto set that may belong to it: whatever beats them does so within 95 % intervals."""
    inside = pareto_set(points)
    return [p for p in points if p not in inside and not any(_dominates_surely(other, p) for other in points)]


def hypervolume(points: Iterable[MeasuredPoint], reference: XY = (0.0, 0.0)) -> Hypervolume:
    """The area of (SA, RA) in [0, 1] x [0, 1] that the points reach, counted from `reference`, an (SA, RA)."""
    points = list(points)
    low, high = (
        area([(getattr(p.sa.interval, end), getattr(p.ra.interval, end)) for p in points], reference)
        for end in ("low", "high")
    )
    return Hypervolume(area([(p.sa.accuracy, p.ra.accuracy) for p in points], reference), Interval(low, high))


def area(places: Iterable[XY], reference: XY = (0.0, 0.0)) -> float:
    """The area of the union of the boxes from `reference` up to each place; a place not above it brings nothing."""
    total, reached = 0.0, reference[1]
    # From the widest box to the narrowest, each adds the strip by which it is higher than all before.
    for x, y in sorted(places, reverse=True):
        if x > reference[0] and y > reached:
            total += (x - reference[0]) * (y - reached)
            reached = y
    return total


def knee(points: Sequence[MeasuredPoint]) -> MeasuredPoint | None:
    """The point of the (SA, RA) front that stands out furthest: most distant from the line between the front's ends.

    Both axes are scaled to the front's own range (Das 1999; Branke et al. 2004). None where nothing stands out: fewer
    than three points, or a front that is straight or hollow.
    """
    front = _front_of_accuracies(points)
    if len(front) < 3:
        return None
    first, last = front[0], front[-1]
    sa_range = first.sa.accuracy - last.sa.accuracy
    ra_range = last.ra.accuracy - first.ra.accuracy
    # On both scaled axes the ends are (1, 0) and (0, 1): the sum of the coordinates tells the distance from their line.
    outward = [
        (p.sa.accuracy - last.sa.accuracy) / sa_range + (p.ra.accuracy - first.ra.accuracy) / ra_range for p in front
    ]
    best = max(range(len(front)), key=outward.__getitem__)
    return front[best] if outward[best] > 1 + 1e-9 else None


def _front_of_accuracies(points: Sequence[MeasuredPoint]) -> list[MeasuredPoint]:
    """The Pareto set in (SA, RA) alone, from the highest SA to the highest RA, one of equal points."""
    front: list[MeasuredPoint] = []
    for point in sorted(points, key=lambda p: (p.sa.accuracy, p.ra.accuracy), reverse=True):
        if not front or point.ra.accuracy > front[-1].ra.accuracy:
            front.append(point)
    return front


def _goals(points: Sequence[MeasuredPoint]) -> list[tuple[float, ...]]:
    """What each point offers, the more the better."""
    known = all(point.flops is not None for point in points)
    return [(p.sa.accuracy, p.ra.accuracy, -p.flops if known and p.flops is not None else 0.0) for p in points]


def _dominates(other: tuple[float, ...], mine: tuple[float, ...]) -> bool:
    return other != mine and all(a >= b for a, b in zip(other, mine, strict=True))


def _dominates_surely(other: MeasuredPoint, mine: MeasuredPoint) -> bool:
    """Both accuracies' intervals lie above, at no more FLOPs. The same images make that stricter than it need be."""
    above = all(a.interval.low >= b.interval.high for a, b in ((other.sa, mine.sa), (other.ra, mine.ra)))
    return above and (other.flops is None or mine.flops is None or other.flops <= mine.flops)
