"""Read results and choose an operating point: `python -m distcond.report RUN_DIR_OR_ROOT ... [OPTION=VALUE ...]`.

    python -m distcond.report runs                                   every run below a folder, overlaid
    python -m distcond.report runs/float-... sa=0.8 ra=0.3           the cheapest point that reaches both
    python -m distcond.report runs ra=30% by=interval html=curves.html
    python -m distcond.report sweeps/noise_scale                     a sweep of distcond.tune: SWEEP_DIR/report

A folder may be a URI (s3://BUCKET/RUNS): see docs/storage.md.

Prints the tables, then for each attack, threat, noise mode and image set the operating points with their 95 %
intervals, the Pareto set, the hypervolume and the knee, and draws one figure. Results are compared within these groups
only. If a point was measured several times, its lowest SA and RA count for the choice, and the line names them.
Runs with a damaged file are named and left out; the exit status is then 1.

  sa=LEVEL ra=LEVEL    choose the point with the fewest FLOPs whose SA and RA are at least this: 0.8 or 80%
  by=estimate          what must reach the levels: the measured accuracy, or with interval the lower end of its interval
  reference=SA,RA      reference point of the hypervolume; default 0,0
  split=test           rows of which split: test or val. A point chosen on test rows looks better on them than it is:
                       choose on val, or with python -m distcond.calibrate, which never uses the test split
  classes=true         also SA and RA of each class, where evaluate stored outcomes per example; of more than 20
                       classes the ten with the lowest RA (classes=all: all of them)
  all=true             of more than 20 runs every table, point and curve; by default an overview of one screen: counts,
                       Pareto set, best points
  png=FILE             file of the figure; default curves.png in the first folder, and with classes classes.png there
  html=FILE            one page with everything, usable offline: a slider over lam moves every panel
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from distcond.config.command_line import run_cli
from distcond.reporting.overview import MAX_RUNS, GroupOverview, group_overviews, overview_text
from distcond.reporting.page import write_page
from distcond.reporting.per_class import ClassScores, ClassScoresKey, per_class_png, per_class_tables
from distcond.reporting.query import ReportQuery, parse_query
from distcond.reporting.report_data import ReportData, read_report_data
from distcond.reporting.terminal import choice_text, comparison_text
from distcond.reporting.trade_off_plot import trade_off_png
from distcond.results.comparison import ComparisonGroup
from distcond.results.lines import shared_title
from distcond.results.selection import Choice, choose_points
from distcond.results.tables import trade_off_table
from distcond.results.threat_table import threat_table
from distcond.storage.uri import is_uri
from distcond.terminal_text import printable, printable_line
from distcond.tuning.sweep_report.read import is_sweep
from distcond.tuning.sweep_report.report import report


class Content(NamedTuple):
    """What is reported: all groups of points, and the runs that are shown in full. Without overviews these are all."""

    data: ReportData
    groups: list[ComparisonGroup]
    overviews: list[GroupOverview]
    shown: ReportData
    shown_groups: list[ComparisonGroup]
    choices: list[Choice]
    classes: dict[ClassScoresKey, ClassScores]


def main(argv: Sequence[str]) -> int:
    """Report on the best checkpoints of all runs found; returns the exit status, 1 if a run could not be read."""
    if not argv or argv[0] in ("--help", "-h"):
        print(__doc__)
        return 0
    args = [str(fetch(arg)) if is_uri(arg) else arg for arg in argv]
    if is_sweep(args[0]):
        print(report(args[0]))
        return 0
    query = parse_query(args)
    png, html = query.png, query.html  # refused before anything is read
    content = read_content(query)
    for error in content.data.errors:
        print(f"damaged: {printable_line(str(error))}", file=sys.stderr)
    print(printable(content_text(query, content)))
    for path in write_figures(content, png):
        print(f"\nfigure: {printable_line(str(path))}")
    if html:
        print(f"page: {write_page(content.shown_groups, html, query.reference, content.classes)}")
    return int(bool(content.data.errors))


def fetch(uri: str) -> Path:
    """A local copy of what is at a URI, without checkpoints."""
    from distcond.runs.run_cache import fetch_run  # imports torch

    return fetch_run(uri, checkpoints=False)


def read_content(query: ReportQuery) -> Content:
    """Read the runs of a query, group their points, and choose.

    Raises:
        ConfigError: an invalid option, or no rows below one of the folders.
    """
    demand, reference, every_run, with_classes = query.demand, query.reference, query.every_run, query.classes
    data = read_report_data(query.roots, query.split)
    groups = data.groups()
    overviews = [] if every_run or len(data.run_dirs) <= MAX_RUNS else group_overviews(groups, reference)
    shown = data.only({run_id for one in overviews for run_id in one.run_ids}) if overviews else data
    shown_groups = shown.groups() if overviews else groups
    choices = choose_points(groups, demand) if demand else []
    classes = classes_at(shown, shown_groups) if with_classes else {}
    return Content(data, groups, overviews, shown, shown_groups, choices, classes)


def content_text(query: ReportQuery, content: Content) -> str:
    """The tables and points, or the overview of many runs; then the choice, and accuracies per class."""
    if content.overviews:
        runs, groups = len(content.data.run_dirs), len(content.groups)
        sections = [overview_text(content.overviews, runs, groups, query.reference)]
    else:
        tables = [trade_off_table(content.data.rows), threat_table(content.data.rows)]
        sections = [*tables, *(comparison_text(group, query.reference) for group in content.groups)]
    sections += [choice_text(content.choices, query.demand)] if query.demand else []
    sections += [per_class_tables(content.classes, query.every_class)] if query.classes else []
    return "\n\n".join(filter(None, sections))


def write_figures(content: Content, png: Path) -> list[Path]:
    """Draw the shown runs, all other points as dots, and the figures per class; returns their paths."""
    best = [choice.best.point for choice in content.choices if choice.meets]
    chosen = [(point.sa.accuracy, point.ra.accuracy) for point in best]
    drawn = {row.run_id for row in content.shown.rows}
    points = [point for group in content.groups for point in group.points if point.at.run_id not in drawn]
    others = [(point.sa.accuracy, point.ra.accuracy) for point in points]
    trade_off = trade_off_png(content.shown.rows, png, chosen, content.data.swept, others)
    return [path for path in (trade_off, *class_figures(content, png.parent)) if path]


def classes_at(data: ReportData, groups: Sequence[ComparisonGroup]) -> dict[ClassScoresKey, ClassScores]:
    """Scores per class, where outcomes per example are stored."""
    from distcond.evaluation.by_class import classes_of  # imports torch

    return {key: scores for group in groups for key, scores in classes_of(group, data.run_dirs).items()}


def class_figures(content: Content, folder: Path) -> list[Path | None]:
    """Draw one figure per run and attack with scores per class; returns their paths."""
    titled = []
    for group in content.shown_groups:
        for line, points in zip(group.lines, group.points_by_line, strict=True):
            keys = {point.at: ClassScoresKey(group.attack, point.at, point.name) for point in points}
            scores = {at: content.classes[key] for at, key in keys.items() if key in content.classes}
            parts = (shared_title([line])[0], group.attack, points[0].name if points else "")
            titled += [(" · ".join(filter(None, parts)), scores)] if scores else []
    paths = [folder / ("classes.png" if len(titled) == 1 else f"classes-{i}.png") for i in range(1, len(titled) + 1)]
    return [per_class_png(scores, title, path) for (title, scores), path in zip(titled, paths, strict=True)]


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
