"""Choose an operating point where several attacks, threats, noise modes or image sets were measured: the worst decides.

A point has to reach the demand in every game that was measured at it, and only points attacked alike compete: one that
was spared the attack that breaks the others is left out, not recommended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distcond.operating_point import OperatingPoint
from distcond.results.choose import Demand, cheapest, nearest_miss, reached
from distcond.results.cost import At
from distcond.results.operating import Field, Game, Operating


class Candidate(NamedTuple):
    """A point with the lowest SA and the lowest RA of the `measured` games at it, and the games they are from."""

    point: Operating
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


class _Seen(NamedTuple):
    """An operating point in every field that has it."""

    fields: list[Field]
    points: list[Operating]
    sa: int
    ra: int

    @property
    def deciding(self) -> set[Game]:
        return {self.fields[self.sa].game, self.fields[self.ra].game}

    @property
    def games(self) -> set[Game]:
        return {field.game for field in self.fields}


def choices_of(fields: Sequence[Field], demand: Demand) -> list[Choice]:
    """What the demand chooses among the points of all fields: one choice, or one per group that shares no attack.

    Points of different data sets or splits are never in one choice.
    """
    found: list[Choice] = []
    for place in dict.fromkeys((field.game.dataset, field.game.split) for field in fields):
        seen = _seen([field for field in fields if (field.game.dataset, field.game.split) == place], demand.sure)
        found += _choices(seen, demand)
    return found


def _seen(fields: Sequence[Field], sure: bool) -> dict[At, _Seen]:
    held: dict[At, list[tuple[Field, Operating]]] = {}
    # Of equally low accuracies that of the attack which most points were measured under decides.
    for field in sorted(fields, key=lambda field: -len(field.points)):
        for point in field.points:
            held.setdefault(point.at, []).append((field, point))
    return {at: _lowest(pairs, sure) for at, pairs in held.items()}


def _lowest(pairs: Sequence[tuple[Field, Operating]], sure: bool) -> _Seen:
    fields, points = [field for field, _ in pairs], [point for _, point in pairs]
    ra = min(range(len(points)), key=lambda i: reached(points[i].ra, sure))
    sa = min(range(len(points)), key=lambda i: (reached(points[i].sa, sure), i != ra))
    return _Seen(fields, points, sa, ra)


def _choices(seen: dict[At, _Seen], demand: Demand) -> list[Choice]:
    deciding = {game for found in seen.values() for game in found.deciding}
    lams = {run: {at.place for at in seen if at.run_id == run} for run in {at.run_id for at in seen}}
    lacks = {at: frozenset(_lacking(at, found, deciding, len(lams[at.run_id]))) for at, found in seen.items()}
    choices = []
    for lack in dict.fromkeys(lacks.values()):
        spared = [other for other in lacks.values() if lack < other]
        if any(other < lack for other in lacks.values()):
            continue
        candidates = [_candidate(found, len(lams) > 1) for at, found in seen.items() if lacks[at] == lack]
        missing = {game.label for game in frozenset().union(*spared) - lack}
        choices.append(_choice(candidates, demand, len(spared), sorted(missing)))
    return choices


def _lacking(at: At, found: _Seen, deciding: Iterable[Game], lams: int) -> set[Game]:
    """The deciding games that could have been measured at a point and were not."""

    def possible(game: Game) -> bool:
        return game.threat == "adaptive" or (lams > 1 and OperatingPoint(game.source) != at.place)

    return {game for game in deciding if possible(game)} - found.games


def _candidate(found: _Seen, many_runs: bool) -> Candidate:
    point = found.points[found.ra]._replace(sa=found.points[found.sa].sa)
    if many_runs and not point.name:
        point = point._replace(name=point.at.run_id)
    return Candidate(point, found.fields[found.sa].attack, found.fields[found.ra].attack, len(found.games))


def _choice(candidates: list[Candidate], demand: Demand, left_out: int, missing: list[str]) -> Choice:
    points = [candidate.point for candidate in candidates]
    taken = cheapest(points, demand)
    best = candidates[points.index(taken or nearest_miss(points, demand))]
    return Choice(candidates, best, taken is not None, left_out, missing)
