"""Select an operating point: the cheapest with SA at least a and RA at least r.

Where several attacks, threats, noise modes or image sets were measured at a point, the worst decides, and only points
that were measured alike compete: one that was not attacked by what breaks the others is left out, not recommended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distcond.errors import ConfigError
from distcond.operating_point import OperatingPoint
from distcond.results.comparison import ComparisonGroup, EvalProtocol, MeasuredPoint
from distcond.results.cost import PointKey
from distcond.results.interval import confidence
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


def cheapest(points: Sequence[MeasuredPoint], demand: Demand) -> MeasuredPoint | None:
    """The point that meets the demand with the fewest FLOPs, or None.

    Points of unknown cost come last. Of equally cheap ones the best in what was not demanded is taken; if both or
    neither were, the one with the highest SA + RA; then the first given.
    """
    found = [point for point in points if meets(point, demand)]
    return min(found, key=lambda point: (_flops_or_inf(point), -_tie_break(point, demand)), default=None)


def meets(point: MeasuredPoint, demand: Demand) -> bool:
    """Whether the point reaches the demanded levels."""
    return all(attained_accuracy(score, demand.sure) >= level for score, level in _levels(point, demand))


def confidence_of(point: MeasuredPoint, demand: Demand) -> float:
    """How surely the point meets the demand, in [0, 1]: at least this for SA and RA together, whatever ties them."""
    pairs = _levels(point, demand)
    doubts = (1 - confidence(s.num_correct / s.draws, s.examples_per_draw, level) for s, level in pairs)
    return max(0.0, 1 - sum(doubts))


def nearest_miss(points: Sequence[MeasuredPoint], demand: Demand) -> MeasuredPoint:
    """The point that falls short of the demand by least, counted by the accuracy that misses most."""

    def shortfall(point: MeasuredPoint) -> float:
        return max(
            (level - attained_accuracy(score, demand.sure) for score, level in _levels(point, demand)), default=0.0
        )

    return min(points, key=shortfall)


def parse_accuracy(name: str, text: str) -> float:
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


def _levels(point: MeasuredPoint, demand: Demand) -> list[tuple[Score, float]]:
    pairs = ((point.sa, demand.sa), (point.ra, demand.ra))
    return [(score, level) for score, level in pairs if level is not None]


def attained_accuracy(score: Score, sure: bool) -> float:
    """What counts against a level: the accuracy, or the lower end of its interval."""
    return score.interval.low if sure else score.accuracy


def _flops_or_inf(point: MeasuredPoint) -> float:
    return float("inf") if point.flops is None else point.flops


def _tie_break(point: MeasuredPoint, demand: Demand) -> float:
    free = [score for score, level in ((point.sa, demand.sa), (point.ra, demand.ra)) if level is None]
    return sum(score.accuracy for score in free or (point.sa, point.ra))


class Candidate(NamedTuple):
    """A point with the lowest SA and the lowest RA of the `measured` games at it, and the games they are from."""

    point: MeasuredPoint
    by_sa: str
    by_ra: str
    measured: int


class Choice(NamedTuple):
    """Points that were attacked alike; `left_out` counts those that were spared what is `missing` there."""

    candidates: list[Candidate]
    best: Candidate
    meets: bool
    left_out: int
    missing: list[str]


class _PointMeasurements(NamedTuple):
    """An operating point in every field that has it."""

    fields: list[ComparisonGroup]
    points: list[MeasuredPoint]
    sa: int
    ra: int

    @property
    def deciding(self) -> set[EvalProtocol]:
        return {self.fields[self.sa].protocol, self.fields[self.ra].protocol}

    @property
    def protocols(self) -> set[EvalProtocol]:
        return {field.protocol for field in self.fields}


def choose_points(fields: Sequence[ComparisonGroup], demand: Demand) -> list[Choice]:
    """What the demand chooses among the points of all fields: one choice, or one per group that shares no attack.

    Points of different data sets or splits are never in one choice.
    """
    found: list[Choice] = []
    for place in dict.fromkeys((field.protocol.dataset, field.protocol.split) for field in fields):
        seen = _measurements_by_point(
            [field for field in fields if (field.protocol.dataset, field.protocol.split) == place], demand.sure
        )
        found += _choices(seen, demand)
    return found


def _measurements_by_point(fields: Sequence[ComparisonGroup], sure: bool) -> dict[PointKey, _PointMeasurements]:
    held: dict[PointKey, list[tuple[ComparisonGroup, MeasuredPoint]]] = {}
    # Of equally low accuracies that of the attack which most points were measured under decides.
    for field in sorted(fields, key=lambda field: -len(field.points)):
        for point in field.points:
            held.setdefault(point.at, []).append((field, point))
    return {at: _lowest_accuracies(pairs, sure) for at, pairs in held.items()}


def _lowest_accuracies(pairs: Sequence[tuple[ComparisonGroup, MeasuredPoint]], sure: bool) -> _PointMeasurements:
    fields, points = [field for field, _ in pairs], [point for _, point in pairs]
    ra = min(range(len(points)), key=lambda i: attained_accuracy(points[i].ra, sure))
    sa = min(range(len(points)), key=lambda i: (attained_accuracy(points[i].sa, sure), i != ra))
    return _PointMeasurements(fields, points, sa, ra)


def _choices(seen: dict[PointKey, _PointMeasurements], demand: Demand) -> list[Choice]:
    deciding = {protocol for found in seen.values() for protocol in found.deciding}
    lams = {run: {at.place for at in seen if at.run_id == run} for run in {at.run_id for at in seen}}
    lacks = {at: frozenset(_missing_protocols(at, found, deciding, len(lams[at.run_id]))) for at, found in seen.items()}
    choices = []
    for lack in dict.fromkeys(lacks.values()):
        spared = [other for other in lacks.values() if lack < other]
        if any(other < lack for other in lacks.values()):
            continue
        candidates = [_candidate(found, len(lams) > 1) for at, found in seen.items() if lacks[at] == lack]
        missing = {protocol.label for protocol in frozenset().union(*spared) - lack}
        choices.append(_choice(candidates, demand, len(spared), sorted(missing)))
    return choices


def _missing_protocols(
    at: PointKey, found: _PointMeasurements, deciding: Iterable[EvalProtocol], lams: int
) -> set[EvalProtocol]:
    """The deciding games that could have been measured at a point and were not."""

    def possible(protocol: EvalProtocol) -> bool:
        return protocol.threat == "adaptive" or (lams > 1 and OperatingPoint(protocol.source) != at.place)

    return {protocol for protocol in deciding if possible(protocol)} - found.protocols


def _candidate(found: _PointMeasurements, many_runs: bool) -> Candidate:
    point = found.points[found.ra]._replace(sa=found.points[found.sa].sa)
    if many_runs and not point.name:
        point = point._replace(name=point.at.run_id)
    return Candidate(point, found.fields[found.sa].attack, found.fields[found.ra].attack, len(found.protocols))


def _choice(candidates: list[Candidate], demand: Demand, left_out: int, missing: list[str]) -> Choice:
    points = [candidate.point for candidate in candidates]
    taken = cheapest(points, demand)
    best = candidates[points.index(taken or nearest_miss(points, demand))]
    return Choice(candidates, best, taken is not None, left_out, missing)
