"""The Pareto set of operating points, its hypervolume and its knee.

Higher SA and RA are better. Fewer FLOPs are better if the FLOPs of all points are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distcond.results.comparison import MeasuredPoint
from distcond.results.interval import Interval

XY = tuple[float, float]


class Hypervolume(NamedTuple):
    """A hypervolume in [0, 1], and its values with every accuracy at the lower and upper end of its interval."""

    value: float
    ends: Interval


def pareto_set(points: Sequence[MeasuredPoint]) -> list[MeasuredPoint]:
    """The points that no other dominates by measured accuracies, in the given order. Equal points are all included."""
    goals = _goals(points)
    return [
        point for point, mine in zip(points, goals, strict=True) if not any(_dominates(other, mine) for other in goals)
    ]


def possibly_pareto(points: Sequence[MeasuredPoint]) -> list[MeasuredPoint]:
    """The points outside the Pareto set that are dominated only within the 95 % intervals, so may belong to it."""
    inside = pareto_set(points)
    return [p for p in points if p not in inside and not any(_dominates_beyond_intervals(other, p) for other in points)]


def hypervolume(points: Iterable[MeasuredPoint], reference: XY = (0.0, 0.0)) -> Hypervolume:
    """The area of [0, 1] x [0, 1] that the points dominate, above `reference`, an (SA, RA)."""
    points = list(points)
    low, high = (
        area([(getattr(p.sa.interval, end), getattr(p.ra.interval, end)) for p in points], reference)
        for end in ("low", "high")
    )
    return Hypervolume(area([(p.sa.accuracy, p.ra.accuracy) for p in points], reference), Interval(low, high))


def area(corners: Iterable[XY], reference: XY = (0.0, 0.0)) -> float:
    """The area of the union of the boxes from `reference` to each corner. Corners not above `reference` add nothing."""
    total, reached = 0.0, reference[1]
    # From the widest box to the narrowest, each adds the strip by which it exceeds the height of all before.
    for x, y in sorted(corners, reverse=True):
        if x > reference[0] and y > reached:
            total += (x - reference[0]) * (y - reached)
            reached = y
    return total


def knee(points: Sequence[MeasuredPoint]) -> MeasuredPoint | None:
    """The point of the (SA, RA) front with the largest distance from the line between the front's ends.

    Both axes are scaled to the front's range (Das 1999; Branke et al. 2004). None for fewer than three points and for a
    front that is straight or concave.
    """
    front = _front_of_accuracies(points)
    if len(front) < 3:
        return None
    first, last = front[0], front[-1]
    sa_range = first.sa.accuracy - last.sa.accuracy
    ra_range = last.ra.accuracy - first.ra.accuracy
    # With scaled axes the ends are (1, 0) and (0, 1), so the distance from their line grows with the coordinates' sum.
    outward = [
        (p.sa.accuracy - last.sa.accuracy) / sa_range + (p.ra.accuracy - first.ra.accuracy) / ra_range for p in front
    ]
    best = max(range(len(front)), key=outward.__getitem__)
    return front[best] if outward[best] > 1 + 1e-9 else None


def _front_of_accuracies(points: Sequence[MeasuredPoint]) -> list[MeasuredPoint]:
    """The Pareto set in (SA, RA) only, from the highest SA to the highest RA, with one of several equal points."""
    front: list[MeasuredPoint] = []
    for point in sorted(points, key=lambda p: (p.sa.accuracy, p.ra.accuracy), reverse=True):
        if not front or point.ra.accuracy > front[-1].ra.accuracy:
            front.append(point)
    return front


def _goals(points: Sequence[MeasuredPoint]) -> list[tuple[float, ...]]:
    """SA, RA and negative FLOPs of each point: larger is better."""
    known = all(point.flops is not None for point in points)
    return [(p.sa.accuracy, p.ra.accuracy, -p.flops if known and p.flops is not None else 0.0) for p in points]


def _dominates(other: tuple[float, ...], mine: tuple[float, ...]) -> bool:
    return other != mine and all(a >= b for a, b in zip(other, mine, strict=True))


def _dominates_beyond_intervals(other: MeasuredPoint, mine: MeasuredPoint) -> bool:
    """Both intervals lie above, at no more FLOPs. Conservative, since both points saw the same images."""
    above = all(a.interval.low >= b.interval.high for a, b in ((other.sa, mine.sa), (other.ra, mine.ra)))
    return above and (other.flops is None or mine.flops is None or other.flops <= mine.flops)
