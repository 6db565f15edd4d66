"""What a field of operating points offers, in words: its chart, Pareto set, hypervolume, knee and the chosen point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from distcond.results.choose import Demand, cheapest, nearest_miss, sureness_of
from distcond.results.decide import Candidate, Choice
from distcond.results.label import sureness
from distcond.results.operating import Field, Operating
from distcond.results.pareto import XY, Volume, hypervolume, knee, pareto_set, perhaps
from distcond.results.series import Score
from distcond.results.terminal import chart

IN_SET, PERHAPS = "*", "~"


class Verdict(NamedTuple):
    """What can be said about a field without knowing what its reader wants."""

    best: list[Operating]
    perhaps: list[Operating]
    volume: Volume
    knee: Operating | None


def judge(points: Sequence[Operating], reference: XY = (0.0, 0.0)) -> Verdict:
    """The Pareto set of the points, what may belong to it, its hypervolume above `reference` (SA, RA), its knee."""
    return Verdict(pareto_set(points), perhaps(points), hypervolume(points, reference), knee(points))


def field_text(field: Field, reference: XY = (0.0, 0.0)) -> str:
    """A chart of the field's points and what to make of them."""
    verdict = judge(field.points, reference)
    marks = dict.fromkeys(verdict.best, IN_SET) | dict.fromkeys(verdict.perhaps, PERHAPS)
    head = f"operating points under {field.attack}: S = SA, R = RA, % with 95 % intervals"
    lines = [head, "", chart(field.points, marks), "", legend(field.points, bool(verdict.perhaps))]
    lines += volume_lines(field, verdict.volume, reference)
    return "\n".join([*lines, knee_line(verdict.knee), *warning_lines(field.points)])


def legend(points: Sequence[Operating], some_perhaps: bool) -> str:
    """What the marks mean."""
    cost = " at as few FLOPs" if all(point.flops is not None for point in points) else ""
    tail = f"; {PERHAPS} beaten, but within the intervals" if some_perhaps else ""
    return f"{IN_SET} Pareto set: nothing here is better in SA or RA without being worse in the other{cost}{tail}"


def volume_lines(field: Field, volume: Volume, reference: XY) -> list[str]:
    """The hypervolume of all points, and of each run, blend and sweep where there are several."""
    place = f"reference point SA {100 * reference[0]:g} %, RA {100 * reference[1]:g} %"
    lines = [f"hypervolume {_volume(volume)}, {place}, ends: all accuracies at the ends of their intervals"]
    curves = field.curves
    if len(curves) > 1:
        lines += [f"  of {name} alone: {_volume(hypervolume(own, reference))}" for name, own in curves.items()]
    return lines


def knee_line(point: Operating | None) -> str:
    """Where the curve bends, with its accuracies."""
    return f"knee: {described(point)}" if point else "knee: none, no point stands out between the ends of the front"


def warning_lines(points: Sequence[Operating]) -> list[str]:
    """What the evaluations warned of, a line per point."""
    return [
        f"warning at {point}: {', '.join(point.warnings)}; its RA may be too high" for point in points if point.warnings
    ]


def choice_text(choices: Sequence[Choice], demand: Demand) -> str:
    """What a demand chooses among points that were attacked alike, and which attack decided; points left out after."""
    lines: list[str] = []
    for choice in choices:
        taken = demand_line([candidate.point for candidate in choice.candidates], demand)
        lines += [taken + _decided(choice.best), *_left_out(choice)]
    return "\n".join(lines)


def demand_line(points: Sequence[Operating], demand: Demand) -> str:
    """The point that a demand chooses and how surely it meets it, or the one that comes nearest."""
    chosen = cheapest(points, demand)
    if chosen:
        return f"{demand}: take {described(chosen)}; holds with {sureness(sureness_of(chosen, demand))}"
    return f"{demand}: no point here; nearest is {described(nearest_miss(points, demand))}"


def _decided(candidate: Candidate) -> str:
    if candidate.measured < 2:
        return ""
    told = f"; decided by the lowest RA of {candidate.measured} measured there: {candidate.by_ra}"
    return told + (f"; SA under {candidate.by_sa}" if candidate.by_sa != candidate.by_ra else "")


def _left_out(choice: Choice) -> list[str]:
    if not choice.left_out:
        return []
    how = "; ".join(choice.missing)
    return [f"left out of this choice: {choice.left_out} points that were not measured under {how}"]


def described(point: Operating) -> str:
    """The point with both accuracies, their intervals and its cost."""
    cost = f", {point.flops:.3g} FLOPs per image" if point.flops is not None else ""
    return f"{point}: SA {percent(point.sa)}, RA {percent(point.ra)}{cost}"


def percent(score: Score) -> str:
    """ "26.1 % (24.8-27.5)"."""
    low, high = (f"{100 * end:.1f}" for end in score.interval)
    return f"{100 * score.accuracy:.1f} % ({low}-{high})"


def _volume(volume: Volume) -> str:
    return f"{volume.value:.3f} ({volume.ends.low:.3f}-{volume.ends.high:.3f})"
