"""Operating points as text: accuracy chart, Pareto set, hypervolume, knee and choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from distcond.results.comparison import ComparisonGroup, MeasuredPoint
from distcond.results.labels import format_confidence
from distcond.results.pareto import XY, Hypervolume, hypervolume, knee, pareto_set, possibly_pareto
from distcond.results.selection import Candidate, Choice, Demand, cheapest, confidence_of, nearest_miss
from distcond.results.series import Score

#: Columns of the accuracy scale. Odd, so that 50 % has a column of its own.
SCALE_WIDTH = 61
SCALE_TICKS = (0, 25, 50, 75, 100)
PARETO_MARK, POSSIBLE_MARK = "*", "~"
NO_KNEE = "none, no point lies outside the line between the ends of the front"


class ParetoSummary(NamedTuple):
    """The Pareto set, the points that may belong to it, the hypervolume and the knee of a group of points."""

    best: list[MeasuredPoint]
    possibly_pareto: list[MeasuredPoint]
    volume: Hypervolume
    knee: MeasuredPoint | None

    @property
    def marks(self) -> dict[MeasuredPoint, str]:
        """The mark of each point in the Pareto set or possibly in it."""
        return dict.fromkeys(self.best, PARETO_MARK) | dict.fromkeys(self.possibly_pareto, POSSIBLE_MARK)


def pareto_summary(points: Sequence[MeasuredPoint], reference: XY = (0.0, 0.0)) -> ParetoSummary:
    """Summarise points; the hypervolume is the one above `reference`, an (SA, RA) in [0, 1]."""
    return ParetoSummary(pareto_set(points), possibly_pareto(points), hypervolume(points, reference), knee(points))


def comparison_text(group: ComparisonGroup, reference: XY = (0.0, 0.0)) -> str:
    """The accuracy chart of a group with its Pareto set, hypervolume, knee and warnings."""
    summary = pareto_summary(group.points, reference)
    head = f"operating points under {group.attack}: S = SA, R = RA, % with 95 % intervals"
    lines = [head, "", accuracy_chart(group.points, summary.marks), ""]
    return "\n".join([*lines, *summary_lines(group, summary, reference)])


def summary_lines(group: ComparisonGroup, summary: ParetoSummary, reference: XY) -> list[str]:
    """The legend of the marks, hypervolumes, the knee and warnings."""
    lines = [_legend(group.points, bool(summary.possibly_pareto)), *_volume_lines(group, summary.volume, reference)]
    knee_text = describe_point(summary.knee) if summary.knee else NO_KNEE
    return [*lines, f"knee: {knee_text}", *_warning_lines(group.points)]


def choice_text(choices: Sequence[Choice], demand: Demand) -> str:
    """The chosen points, the attacks that decided, and how many points were left out of each choice."""
    lines: list[str] = []
    for choice in choices:
        chosen = demand_line([candidate.point for candidate in choice.candidates], demand)
        lines += [chosen + _deciding_attack(choice.best), *_left_out(choice)]
    return "\n".join(lines)


def demand_line(points: Sequence[MeasuredPoint], demand: Demand) -> str:
    """The point that meets a demand with its confidence, or the nearest one."""
    chosen = cheapest(points, demand)
    if chosen:
        return f"{demand}: take {describe_point(chosen)}; holds with {format_confidence(confidence_of(chosen, demand))}"
    return f"{demand}: no point here; nearest is {describe_point(nearest_miss(points, demand))}"


def describe_point(point: MeasuredPoint) -> str:
    """The point with both accuracies, their intervals and its cost."""
    cost = f", {point.flops:.3g} FLOPs per image" if point.flops is not None else ""
    return f"{point}: SA {format_score(point.sa)}, RA {format_score(point.ra)}{cost}"


def format_score(score: Score) -> str:
    """An accuracy with its interval: "26.1 % (24.8-27.5)"."""
    low, high = (f"{100 * end:.1f}" for end in score.interval)
    return f"{100 * score.accuracy:.1f} % ({low}-{high})"


def accuracy_chart(points: Sequence[MeasuredPoint], marks: Mapping[MeasuredPoint, str]) -> str:
    """One line per point: mark, name, accuracy scale, and FLOPs if they differ."""
    names = [str(point) for point in points]
    size = max(map(len, names))
    costs = [f"  {p.flops:.3g}" if p.flops is not None else "" for p in points]
    flops = costs if len(set(costs)) > 1 else [""] * len(points)
    rows = [
        f"{marks.get(point, ''):1} {name:<{size}}  {accuracy_scale(point.sa, point.ra)}{cost}".rstrip()
        for point, name, cost in zip(points, names, flops, strict=True)
    ]
    head = f"{'':{size + 4}}{_ticks()}{'  FLOPs' if any(flops) else ''}"
    return "\n".join([head, *rows])


def accuracy_scale(sa: Score, ra: Score) -> str:
    """A scale of `SCALE_WIDTH` characters from 0 to 100 %.

    S and R are SA and RA, B is both in one column, dashes reach to the ends of the 95 % intervals.
    """
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


def _legend(points: Sequence[MeasuredPoint], some_possible: bool) -> str:
    cost = " at as few FLOPs" if all(point.flops is not None for point in points) else ""
    possible = f"; {POSSIBLE_MARK} dominated, but within the intervals" if some_possible else ""
    return f"{PARETO_MARK} Pareto set: no other point is better in SA or RA and not worse in the other{cost}{possible}"


def hypervolume_line(volume: Hypervolume, reference: XY) -> str:
    """The hypervolume of a group with its reference point, an (SA, RA) in [0, 1]."""
    above = f"reference point SA {100 * reference[0]:g} %, RA {100 * reference[1]:g} %"
    return f"hypervolume {_volume_text(volume)}, {above}, range: all accuracies at the ends of their intervals"


def _volume_lines(group: ComparisonGroup, volume: Hypervolume, reference: XY) -> list[str]:
    """The hypervolume of all points, and of each run, blend and sweep if there are several."""
    lines = [hypervolume_line(volume, reference)]
    curves = group.curves
    if len(curves) > 1:
        lines += [f"  of {name} alone: {_volume_text(hypervolume(own, reference))}" for name, own in curves.items()]
    return lines


def _volume_text(volume: Hypervolume) -> str:
    return f"{volume.value:.3f} ({volume.ends.low:.3f}-{volume.ends.high:.3f})"


def _warning_lines(points: Sequence[MeasuredPoint]) -> list[str]:
    return [
        f"warning at {point}: {', '.join(point.warnings)}; its RA may be too high" for point in points if point.warnings
    ]


def _deciding_attack(candidate: Candidate) -> str:
    if candidate.measured < 2:
        return ""
    by_ra = f"; decided by the lowest RA of {candidate.measured} measurements: {candidate.by_ra}"
    return by_ra + (f"; SA under {candidate.by_sa}" if candidate.by_sa != candidate.by_ra else "")


def _left_out(choice: Choice) -> list[str]:
    if not choice.left_out:
        return []
    return [f"left out of this choice: {choice.left_out} points not measured under {'; '.join(choice.missing)}"]
