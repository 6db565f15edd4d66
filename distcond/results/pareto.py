"""The Pareto set of operating points, its hypervolume and its knee.

Higher SA and RA are better. Fewer FLOPs are better if the FLOPs of all points are known.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distcond.results.comparison import MeasuredPoint
from distcond.results.interval import Interval

XY = tuple[float, float]
Goals = tuple[float, float, float]


class Hypervolume(NamedTuple):
    """A hypervolume in [0, 1], and its values with every accuracy at the lower and upper end of its interval."""

    value: float
    ends: Interval


def pareto_set(points: Sequence[MeasuredPoint]) -> list[MeasuredPoint]:
    """The points that no other dominates by measured accuracies, in the given order. Equal points are all included."""
    goals, seen, inside = _goals(points), _Staircase(), set[Goals]()
    # From the highest SA down, so only earlier points can dominate; of equal ones, one is looked at.
    for goal in sorted(set(goals), reverse=True):
        if not seen.reaches(goal[1:]):
            inside.add(goal)
            seen.add(goal[1:])
    return [point for point, goal in zip(points, goals, strict=True) if goal in inside]


def possibly_pareto(points: Sequence[MeasuredPoint]) -> list[MeasuredPoint]:
    """The points outside the Pareto set that are dominated only within the 95 % intervals, so may belong to it."""
    inside, beyond = set(pareto_set(points)), _dominated_beyond_intervals(points)
    return [p for p, dominated in zip(points, beyond, strict=True) if not dominated and p not in inside]


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


def _goals(points: Sequence[MeasuredPoint]) -> list[Goals]:
    """SA, RA and negative FLOPs of each point: larger is better."""
    known = all(point.flops is not None for point in points)
    return [(p.sa.accuracy, p.ra.accuracy, -p.flops if known and p.flops is not None else 0.0) for p in points]


def _dominated_beyond_intervals(points: Sequence[MeasuredPoint]) -> list[bool]:
    """Whether another point has both intervals above, at no more FLOPs.

    Conservative, since both points saw the same images. A point of unknown FLOPs is as cheap as any, and as dear.
    """
    low = sorted((_ends(point, "low", unknown_flops=0.0) for point in points), reverse=True)
    high = [_ends(point, "high", unknown_flops=math.inf) for point in points]
    seen, count, dominated = _Staircase(), 0, [False] * len(points)
    for index in sorted(range(len(points)), key=lambda index: high[index][0], reverse=True):
        while count < len(low) and low[count][0] >= high[index][0]:
            seen.add(low[count][1:])
            count += 1
        dominated[index] = seen.reaches(high[index][1:])
    return dominated


def _ends(point: MeasuredPoint, end: str, unknown_flops: float) -> Goals:
    """SA and RA at the low or high ends of their intervals, and negative FLOPs."""
    sa, ra = getattr(point.sa.interval, end), getattr(point.ra.interval, end)
    return sa, ra, -(unknown_flops if point.flops is None else point.flops)


class _Staircase:
    """The Pareto set of pairs of goals; adding and asking take logarithmic time."""

    def __init__(self) -> None:
        # The first goal rises along the steps, the second falls.
        self.first, self.second = list[float](), list[float]()

    def reaches(self, goal: XY) -> bool:
        """Whether some added pair is at least `goal` in both."""
        index = bisect_left(self.first, goal[0])
        return index < len(self.first) and self.second[index] >= goal[1]

    def add(self, goal: XY) -> None:
        """Add a pair, and remove those that it reaches."""
        if self.reaches(goal):
            return
        end = bisect_right(self.first, goal[0])
        begin = end
        while begin and self.second[begin - 1] <= goal[1]:
            begin -= 1
        self.first[begin:end], self.second[begin:end] = [goal[0]], [goal[1]]
