"""Operating points as text: SA and RA with 95 % intervals on a scale, Pareto set, hypervolume, knee, choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from distcond.results.comparison import ComparisonGroup, MeasuredPoint
from distcond.results.labels import format_confidence
from distcond.results.pareto import XY, Hypervolume, hypervolume, knee, pareto_set, possibly_pareto
from distcond.results.selection import Candidate, Choice, Demand, cheapest, confidence_of, nearest_miss
from distcond.results.series import Score

SCALE_WIDTH = 61
"""Columns of the scale: an odd number, so that 50 % has one of its own."""
SCALE_TICKS = (0, 25, 50, 75, 100)


def accuracy_chart(points: Sequence[MeasuredPoint], marks: Mapping[MeasuredPoint, str]) -> str:
    """One line per point: its mark, where it is, S at its SA and R at its RA (B where both meet), dashes between the
    ends of the 95 % intervals, FLOPs at the end where they differ."""
    names = [str(point) for point in points]
    size = max(map(len, names))
    prices = [f"  {p.flops:.3g}" if p.flops is not None else "" for p in points]
    last = prices if len(set(prices)) > 1 else [""] * len(points)
    rows = [
        f"{marks.get(point, ''):1} {name:<{size}}  {accuracy_scale(point.sa, point.ra)}{price}".rstrip()
        for point, name, price in zip(points, names, last, strict=True)
    ]
    head = f"{'':{size + 4}}{_ticks()}{'  FLOPs' if any(last) else ''}"
    return "\n".join([head, *rows])


def accuracy_scale(sa: Score, ra: Score) -> str:
    """The scale of one point, `SCALE_WIDTH` characters."""
    cells = [" "] * SCALE_WIDTH
    for tick in SCALE_TICKS:
        cells[_column(tick / 100)] = "."
    for score in (ra, sa):
        first, last = (_column(end) for end in score.interval)
        cells[first : last + 1] = "-" * (last + 1 - first)
    at_ra, at_sa = _column(ra.accuracy), _column(sa.accuracy)
    cells[at_ra] = "R"
    cells[at_sa] = "B" if at_ra == at_sa else "S"
    return "".join(cells)


def _column(accuracy: float) -> int:
    return round(accuracy * (SCALE_WIDTH - 1))


def _ticks() -> str:
    cells = [" "] * (SCALE_WIDTH + 2)
    for tick in SCALE_TICKS:
        start = max(0, _column(tick / 100) - len(str(tick)) // 2)
        cells[start : start + len(str(tick))] = str(tick)
    return "".join(cells).rstrip()


PARETO_MARK, POSSIBLE_MARK = "*", "~"


class ParetoSummary(NamedTuple):
    """What can be said about a field without knowing what its reader wants."""

    best: list[MeasuredPoint]
    possibly_pareto: list[MeasuredPoint]
    volume: Hypervolume
    knee: MeasuredPoint | None


def pareto_summary(points: Sequence[MeasuredPoint], reference: XY = (0.0, 0.0)) -> ParetoSummary:
    """The Pareto set of the points, what may belong to it, its hypervolume above `reference` (SA, RA), its knee."""
    return ParetoSummary(pareto_set(points), possibly_pareto(points), hypervolume(points, reference), knee(points))


def comparison_text(field: ComparisonGroup, reference: XY = (0.0, 0.0)) -> str:
    """A chart of the field's points and what to make of them."""
    verdict = pareto_summary(field.points, reference)
    marks = dict.fromkeys(verdict.best, PARETO_MARK) | dict.fromkeys(verdict.possibly_pareto, POSSIBLE_MARK)
    head = f"operating points under {field.attack}: S = SA, R = RA, % with 95 % intervals"
    lines = [head, "", accuracy_chart(field.points, marks), "", legend(field.points, bool(verdict.possibly_pareto))]
    lines += volume_lines(field, verdict.volume, reference)
    return "\n".join([*lines, knee_line(verdict.knee), *warning_lines(field.points)])


def legend(points: Sequence[MeasuredPoint], some_perhaps: bool) -> str:
    """What the marks mean."""
    cost = " at as few FLOPs" if all(point.flops is not None for point in points) else ""
    tail = f"; {POSSIBLE_MARK} beaten, but within the intervals" if some_perhaps else ""
    return f"{PARETO_MARK} Pareto set: nothing here is better in SA or RA without being worse in the other{cost}{tail}"


def volume_lines(field: ComparisonGroup, volume: Hypervolume, reference: XY) -> list[str]:
    """The hypervolume of all points, and of each run, blend and sweep where there are several."""
    place = f"reference point SA {100 * reference[0]:g} %, RA {100 * reference[1]:g} %"
    lines = [f"hypervolume {_volume_text(volume)}, {place}, ends: all accuracies at the ends of their intervals"]
    curves = field.curves
    if len(curves) > 1:
        lines += [f"  of {name} alone: {_volume_text(hypervolume(own, reference))}" for name, own in curves.items()]
    return lines


def knee_line(point: MeasuredPoint | None) -> str:
    """Where the curve bends, with its accuracies."""
    return (
        f"knee: {describe_point(point)}" if point else "knee: none, no point stands out between the ends of the front"
    )


def warning_lines(points: Sequence[MeasuredPoint]) -> list[str]:
    """What the evaluations warned of, a line per point."""
    return [
        f"warning at {point}: {', '.join(point.warnings)}; its RA may be too high" for point in points if point.warnings
    ]


def choice_text(choices: Sequence[Choice], demand: Demand) -> str:
    """What a demand chooses among points that were attacked alike, and which attack decided; points left out after."""
    lines: list[str] = []
    for choice in choices:
        taken = demand_line([candidate.point for candidate in choice.candidates], demand)
        lines += [taken + _deciding_attack(choice.best), *_left_out(choice)]
    return "\n".join(lines)


def demand_line(points: Sequence[MeasuredPoint], demand: Demand) -> str:
    """The point that a demand chooses and how surely it meets it, or the one that comes nearest."""
    chosen = cheapest(points, demand)
    if chosen:
        return f"{demand}: take {describe_point(chosen)}; holds with {format_confidence(confidence_of(chosen, demand))}"
    return f"{demand}: no point here; nearest is {describe_point(nearest_miss(points, demand))}"


def _deciding_attack(candidate: Candidate) -> str:
    if candidate.measured < 2:
        return ""
    told = f"; decided by the lowest RA of {candidate.measured} measured there: {candidate.by_ra}"
    return told + (f"; SA under {candidate.by_sa}" if candidate.by_sa != candidate.by_ra else "")


def _left_out(choice: Choice) -> list[str]:
    if not choice.left_out:
        return []
    how = "; ".join(choice.missing)
    return [f"left out of this choice: {choice.left_out} points that were not measured under {how}"]


def describe_point(point: MeasuredPoint) -> str:
    """The point with both accuracies, their intervals and its cost."""
    cost = f", {point.flops:.3g} FLOPs per image" if point.flops is not None else ""
    return f"{point}: SA {format_score(point.sa)}, RA {format_score(point.ra)}{cost}"


def format_score(score: Score) -> str:
    """ "26.1 % (24.8-27.5)"."""
    low, high = (f"{100 * end:.1f}" for end in score.interval)
    return f"{100 * score.accuracy:.1f} % ({low}-{high})"


def _volume_text(volume: Hypervolume) -> str:
    return f"{volume.value:.3f} ({volume.ends.low:.3f}-{volume.ends.high:.3f})"
