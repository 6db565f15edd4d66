"""Select an operating point: the cheapest one with at least the demanded SA and RA.

If a point was measured under several attacks, threats, noise modes or image sets, its lowest accuracies decide. Only
points measured under the same deciding protocols compete: a point that was not attacked by what breaks the others is
left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distcond.errors import ConfigError
from distcond.operating_point import OperatingPoint
from distcond.results.comparison import ComparisonGroup, EvalProtocol, MeasuredPoint
from distcond.results.interval import confidence
from distcond.results.series import PointKey, Score


class Demand(NamedTuple):
    """The SA and RA that a point must reach, in [0, 1]; None means no demand.

    With `sure` the lower end of the 95 % interval must reach them, not just the estimate.
    """

    sa: float | None = None
    ra: float | None = None
    sure: bool = False

    def __str__(self) -> str:
        levels = [
            f"{name} >= {100 * level:g} %" for name, level in (("SA", self.sa), ("RA", self.ra)) if level is not None
        ]
        return (" and ".join(levels) or "no demand") + (", at the intervals' lower ends" if self.sure else "")


class Candidate(NamedTuple):
    """A point with its lowest SA and lowest RA over the `measured` protocols, and the labels of the deciding ones."""

    point: MeasuredPoint
    by_sa: str
    by_ra: str
    measured: int


class Choice(NamedTuple):
    """The choice among points that were measured under the same deciding protocols.

    `left_out` counts the points that were not measured under `missing`, the labels of the protocols they lack.
    """

    candidates: list[Candidate]
    best: Candidate
    meets: bool
    left_out: int
    missing: list[str]


def parse_accuracy(name: str, text: str) -> float:
    """An accuracy in [0, 1] from "0.3" or "30%".

    Raises:
        ConfigError: not such a number.
    """
    percent = text.strip().endswith("%")
    try:
        level = float(text.strip().rstrip("%")) / (100 if percent else 1)
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        raise ConfigError(f"{name}={text}: expected an accuracy, such as 0.3 or 30%")
    return level


def cheapest(points: Sequence[MeasuredPoint], demand: Demand) -> MeasuredPoint | None:
    """The point that meets the demand with the fewest FLOPs, or None.

    Points of unknown cost come last. Among equally cheap points the best in the accuracy without a demand wins; if both
    or neither have one, the highest SA + RA; then the first in order.
    """
    meeting = [point for point in points if meets(point, demand)]
    return min(meeting, key=lambda point: (_flops_or_inf(point), -_tie_break(point, demand)), default=None)


def meets(point: MeasuredPoint, demand: Demand) -> bool:
    """Whether the point reaches the demanded levels."""
    return all(attained_accuracy(score, demand.sure) >= level for score, level in _levels(point, demand))


def confidence_of(point: MeasuredPoint, demand: Demand) -> float:
    """A lower bound in [0, 1] of the confidence that the point meets the demands on SA and RA jointly."""
    doubts = (
        1 - confidence(score.num_correct / score.draws, score.examples_per_draw, level)
        for score, level in _levels(point, demand)
    )
    return max(0.0, 1 - sum(doubts))


def nearest_miss(points: Sequence[MeasuredPoint], demand: Demand) -> MeasuredPoint:
    """The point with the smallest shortfall, which is that of the accuracy furthest below its level."""

    def shortfall(point: MeasuredPoint) -> float:
        return max(
            (level - attained_accuracy(score, demand.sure) for score, level in _levels(point, demand)), default=0.0
        )

    return min(points, key=shortfall)


def attained_accuracy(score: Score, sure: bool) -> float:
    """The number that is compared with a level: the accuracy or, with `sure`, the lower end of its interval."""
    return score.interval.low if sure else score.accuracy


def choose_points(groups: Sequence[ComparisonGroup], demand: Demand) -> list[Choice]:
    """Choose among the points of all groups: one choice, or one per set of points that share no deciding protocol.

    Points of different data sets or splits are never in one choice.
    """
    choices: list[Choice] = []
    for split in dict.fromkeys((group.protocol.dataset, group.protocol.split) for group in groups):
        of_split = [group for group in groups if (group.protocol.dataset, group.protocol.split) == split]
        choices += _choose_on_split(_measurements_by_point(of_split, demand.sure), demand)
    return choices


class _PointMeasurements(NamedTuple):
    """One operating point in every group that has it. `sa` and `ra` are the indices of its lowest accuracies."""

    groups: list[ComparisonGroup]
    points: list[MeasuredPoint]
    sa: int
    ra: int

    @property
    def deciding(self) -> set[EvalProtocol]:
        return {self.groups[self.sa].protocol, self.groups[self.ra].protocol}

    @property
    def protocols(self) -> set[EvalProtocol]:
        return {group.protocol for group in self.groups}


def _measurements_by_point(groups: Sequence[ComparisonGroup], sure: bool) -> dict[PointKey, _PointMeasurements]:
    by_point: dict[PointKey, list[tuple[ComparisonGroup, MeasuredPoint]]] = {}
    # Sorted so that of equally low accuracies the protocol with the most points decides.
    for group in sorted(groups, key=lambda group: -len(group.points)):
        for point in group.points:
            by_point.setdefault(point.at, []).append((group, point))
    return {at: _lowest_accuracies(pairs, sure) for at, pairs in by_point.items()}


def _lowest_accuracies(pairs: Sequence[tuple[ComparisonGroup, MeasuredPoint]], sure: bool) -> _PointMeasurements:
    groups, points = [group for group, _ in pairs], [point for _, point in pairs]
    ra = min(range(len(points)), key=lambda i: attained_accuracy(points[i].ra, sure))
    sa = min(range(len(points)), key=lambda i: (attained_accuracy(points[i].sa, sure), i != ra))
    return _PointMeasurements(groups, points, sa, ra)


def _choose_on_split(measurements: dict[PointKey, _PointMeasurements], demand: Demand) -> list[Choice]:
    """One choice per smallest set of missing protocols; points that lack more are counted as left out of it."""
    deciding = {protocol for measured in measurements.values() for protocol in measured.deciding}
    points_of_run: dict[str, set[OperatingPoint]] = {}
    for at in measurements:
        points_of_run.setdefault(at.run_id, set()).add(at.point.place)
    lacking = {
        at: frozenset(_missing_protocols(at, measured, deciding, len(points_of_run[at.run_id])))
        for at, measured in measurements.items()
    }
    choices = []
    for lack in dict.fromkeys(lacking.values()):
        if any(other < lack for other in lacking.values()):
            continue
        candidates = [_candidate(of, len(points_of_run) > 1) for at, of in measurements.items() if lacking[at] == lack]
        left_out = [other for other in lacking.values() if lack < other]
        missing = {protocol.label for protocol in frozenset().union(*left_out) - lack}
        choices.append(_choice(candidates, demand, len(left_out), sorted(missing)))
    return choices


def _missing_protocols(
    at: PointKey, measured: _PointMeasurements, deciding: Iterable[EvalProtocol], points_of_run: int
) -> set[EvalProtocol]:
    """The deciding protocols under which a point could have been measured and was not."""

    def possible(protocol: EvalProtocol) -> bool:
        # A transfer attack needs another operating point of the same run.
        other = OperatingPoint(protocol.source) != at.point.place
        return protocol.threat == "adaptive" or (points_of_run > 1 and other)

    return {protocol for protocol in deciding if possible(protocol)} - measured.protocols


def _candidate(measured: _PointMeasurements, many_runs: bool) -> Candidate:
    point = measured.points[measured.ra]._replace(sa=measured.points[measured.sa].sa)
    if many_runs and not point.name:
        point = point._replace(name=point.at.run_id)
    by_sa, by_ra = measured.groups[measured.sa].attack, measured.groups[measured.ra].attack
    return Candidate(point, by_sa, by_ra, len(measured.protocols))


def _choice(candidates: list[Candidate], demand: Demand, left_out: int, missing: list[str]) -> Choice:
    points = [candidate.point for candidate in candidates]
    chosen = cheapest(points, demand)
    best = candidates[points.index(chosen or nearest_miss(points, demand))]
    return Choice(candidates, best, chosen is not None, left_out, missing)


def _levels(point: MeasuredPoint, demand: Demand) -> list[tuple[Score, float]]:
    pairs = ((point.sa, demand.sa), (point.ra, demand.ra))
    return [(score, level) for score, level in pairs if level is not None]


def _flops_or_inf(point: MeasuredPoint) -> float:
    return float("inf") if point.flops is None else point.flops


def _tie_break(point: MeasuredPoint, demand: Demand) -> float:
    free = [score for score, level in ((point.sa, demand.sa), (point.ra, demand.ra)) if level is None]
    return sum(score.accuracy for score in free or (point.sa, point.ra))
