"""The report of many runs on one screen: for each group of comparable points, counts, Pareto set and best points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from distcond.reporting.terminal import (
    NO_KNEE,
    PARETO_MARK,
    ParetoSummary,
    format_score,
    hypervolume_line,
    pareto_summary,
)
from distcond.results.comparison import ComparisonGroup, MeasuredPoint
from distcond.results.labels import align_columns
from distcond.results.pareto import XY

#: Reports of more runs than this are overviews.
MAX_RUNS = 20
#: Lines of an overview, its groups together.
MAX_LINES = 36
#: Lines of a group besides its points, and groups that are shown.
_GROUP_LINES, _MAX_GROUPS = 9, 3
#: Every table, point and curve is shown with this option.
ALL_OPTION = "all=true"


class GroupOverview(NamedTuple):
    """A group of comparable points and those of them to list, by falling SA."""

    group: ComparisonGroup
    summary: ParetoSummary
    listed: list[MeasuredPoint]

    @property
    def run_ids(self) -> set[str]:
        """The runs of the lines that have a listed point."""
        listed = {point.at.run_id for point in self.listed}
        by_line = [{part.series.origin.run_id for part in line.by_run} for line in self.group.lines]
        return {run_id for of_line in by_line if of_line & listed for run_id in of_line}


def group_overviews(groups: Sequence[ComparisonGroup], reference: XY = (0.0, 0.0)) -> list[GroupOverview]:
    """What to show of each group, those with the most points first; `reference` as in `pareto_summary`."""
    largest = sorted(groups, key=lambda group: -sum(map(len, group.points_by_line)))[:_MAX_GROUPS]
    limit = MAX_LINES // max(1, len(largest)) - _GROUP_LINES
    overviews = []
    for group in largest:
        summary = pareto_summary(group.points, reference)
        overviews.append(GroupOverview(group, summary, _listed_points(summary, max(3, limit))))
    return overviews


def overview_text(overviews: Sequence[GroupOverview], runs: int, groups: int, reference: XY = (0.0, 0.0)) -> str:
    """The overview of `runs` runs, whose points are in `groups` groups."""
    head = f"{runs} runs, an overview; {ALL_OPTION} shows every table, point and curve"
    more = groups - len(overviews)
    left_out = [f"and {more} more attacks or image sets with fewer points: {ALL_OPTION}"] if more else []
    return "\n\n".join([head, *(_group_text(one, reference) for one in overviews), *left_out])


def _listed_points(summary: ParetoSummary, limit: int) -> list[MeasuredPoint]:
    """The Pareto set by falling SA, thinned out evenly to `limit` points; the remarkable ones are always in it."""
    best = sorted(summary.best, key=lambda point: (-point.sa.accuracy, -point.ra.accuracy))
    kept = {index for index, point in enumerate(best) if point in _remarks(summary)}
    others = [index for index in range(len(best)) if index not in kept]
    room = max(0, limit - len(kept))
    if len(others) > room:
        others = [others[number * len(others) // room] for number in range(room)]
    return [best[index] for index in sorted({*kept, *others})]


def _remarks(summary: ParetoSummary) -> dict[MeasuredPoint, str]:
    """What stands out, by point of the Pareto set; the first of equals."""
    highest = {
        "highest SA": max(summary.best, key=lambda point: (point.sa.accuracy, point.ra.accuracy)),
        "highest RA": max(summary.best, key=lambda point: (point.ra.accuracy, point.sa.accuracy)),
        "highest SA + RA": max(summary.best, key=lambda point: point.sa.accuracy + point.ra.accuracy),
    }
    remarks = dict[MeasuredPoint, list[str]]()
    for text, point in highest.items():
        remarks.setdefault(point, []).append(text)
    if summary.knee in summary.best:
        remarks.setdefault(summary.knee, []).append("knee")
    return {point: ", ".join(texts) for point, texts in remarks.items()}


def _group_text(overview: GroupOverview, reference: XY) -> str:
    group, summary, listed = overview
    counts = f"{len(group.points)} points of {len({point.at.run_id for point in group.points})} runs"
    inside = f"{len(summary.best)} in the Pareto set ({PARETO_MARK})"
    within = f"{len(summary.possibly_pareto)} more dominated only within the 95 % intervals"
    lines = [f"under {group.attack}: {counts}, {inside}, {within}", "", *_table(listed, _remarks(summary))]
    if len(listed) < len(summary.best):
        lines.append(f"and {len(summary.best) - len(listed)} more of the Pareto set: {ALL_OPTION}")
    lines += ["", hypervolume_line(summary.volume, reference)]
    lines += [] if summary.knee else [f"knee: {NO_KNEE}"]
    warned = sum(bool(point.warnings) for point in group.points)
    return "\n".join(lines + ([f"warning: gradient masking may make RA too high at {warned} points"] if warned else []))


def _table(points: Sequence[MeasuredPoint], remarks: dict[MeasuredPoint, str]) -> list[str]:
    names = [f"{point.at.run_id}, {point.at.point}" for point in points]
    width = max(map(len, ["run", *names]))
    columns = [["run".ljust(width), *(name.ljust(width) for name in names)]]
    columns += [["SA", *(format_score(p.sa) for p in points)], ["RA", *(format_score(p.ra) for p in points)]]
    if any(point.flops is not None for point in points):
        columns.append(["FLOPs", *("?" if p.flops is None else f"{p.flops:.3g}" for p in points)])
    marks = ["", "", *(f"  {PARETO_MARK} {remarks.get(point, '')}".rstrip() for point in points)]
    return [line + mark for line, mark in zip(align_columns(columns, header_lines=1), marks, strict=True)]
