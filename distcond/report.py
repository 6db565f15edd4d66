"""Read results and choose an operating point: `python -m distcond.report RUN_DIR_OR_ROOT ... [OPTION=VALUE ...]`.

    python -m distcond.report runs                                   every run below a folder, overlaid
    python -m distcond.report runs/float-... sa=0.8 ra=0.3           the cheapest point that reaches both
    python -m distcond.report runs ra=30% by=interval html=curves.html
    python -m distcond.report sweeps/noise_scale                     a sweep of distcond.tune: SWEEP_DIR/report

A folder may be a URI (s3://BUCKET/RUNS): see docs/storage.md.

Prints the tables, then for each attack, threat, noise mode and image set the operating points with their 95 %
intervals, the Pareto set, the hypervolume and the knee, and draws one figure. Results are compared within these groups
only. If a point was measured several times, its lowest SA and RA count for the choice, and the line names them.

  sa=LEVEL ra=LEVEL    choose the point with the fewest FLOPs whose SA and RA are at least this: 0.8 or 80%
  by=estimate          what must reach the levels: the measured accuracy, or with interval the lower end of its interval
  reference=SA,RA      reference point of the hypervolume; default 0,0
  split=test           rows of which split: test or val. A point chosen on test rows looks better on them than it is:
                       choose on val, or with python -m distcond.calibrate, which never uses the test split
  classes=true         also SA and RA of each class, where evaluate stored outcomes per example; of more than 20
                       classes the ten with the lowest RA (classes=all: all of them)
  png=FILE             file of the figure; default curves.png in the first folder, and with classes classes.png there
  html=FILE            one page with everything, usable offline: a slider over lam moves every panel
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from distcond.config.command_line import run_cli
from distcond.errors import ConfigError
from distcond.reporting.page import write_page
from distcond.reporting.per_class import ClassScores, ClassScoresKey, per_class_png, per_class_tables
from distcond.reporting.query import ReportQuery, parse_query
from distcond.reporting.terminal import choice_text, comparison_text
from distcond.reporting.trade_off_plot import trade_off_png
from distcond.results.comparison import ComparisonGroup, comparison_groups
from distcond.results.cost import InferenceCost, costs_below, run_dirs_below
from distcond.results.labels import is_pair, name_pairs
from distcond.results.lines import shared_title
from distcond.results.row import Row
from distcond.results.selection import choose_points
from distcond.results.series import PointKey
from distcond.results.store import read_runs
from distcond.results.swept import swept_settings_below
from distcond.results.tables import trade_off_table
from distcond.results.threat_table import threat_table
from distcond.storage.uri import is_uri
from distcond.tuning.sweep_report.read import is_sweep
from distcond.tuning.sweep_report.report import report


def main(argv: Sequence[str]) -> int:
    """Report on the best checkpoints of all runs found; returns the exit status."""
    if not argv or argv[0] in ("--help", "-h"):
        print(__doc__)
        return 0
    args = [str(fetch(arg)) if is_uri(arg) else arg for arg in argv]
    if is_sweep(args[0]):
        print(report(args[0]))
        return 0
    query = parse_query(args)
    demand, reference, png, html = query.demand, query.reference, query.png, query.html
    rows = rows_at(query.roots, query.split)
    costs: dict[PointKey, InferenceCost] = costs_below(*query.roots)
    swept = swept_settings_below(*query.roots)
    groups = comparison_groups(rows, costs, swept)
    classes = classes_at(query, groups) if query.classes else {}
    sections = [trade_off_table(rows), threat_table(rows), *(comparison_text(group, reference) for group in groups)]
    choices = choose_points(groups, demand) if demand else []
    sections += [choice_text(choices, demand)] if demand else []
    sections += [per_class_tables(classes, query.every_class)] if query.classes else []
    print("\n\n".join(filter(None, sections)))
    chosen = [(c.best.point.sa.accuracy, c.best.point.ra.accuracy) for c in choices if c.meets]
    figures = [trade_off_png(rows, png, chosen, swept), *class_figures(groups, classes, png.parent)]
    for path in filter(None, figures):
        print(f"\nfigure: {path}")
    if html:
        print(f"page: {write_page(groups, html, reference, classes)}")
    return 0


def fetch(uri: str) -> Path:
    """A local copy of what is at a URI, without checkpoints."""
    from distcond.runs.run_cache import fetch_run  # imports torch

    return fetch_run(uri, checkpoints=False)


def rows_at(places: Sequence[Path], split: str) -> list[Row]:
    """Rows of the best checkpoints on one split; on val, if there are none, those of the validation in training.

    Raises:
        ConfigError: no rows below one of the places.
    """
    rows = list[Row]()
    runs = {run_dir: name_pairs(of_run, run_dir) for run_dir, of_run in read_runs(places).items()}
    for place in places:
        below = [of_run for run_dir, of_run in runs.items() if run_dir.is_relative_to(place.resolve())]
        of_split = [row for of_run in below for row in of_run if row.split == split]
        # A pair has one checkpoint, whichever it was made of.
        selected = [row for row in of_split if row.checkpoint == "best" or is_pair(row.method)]
        selected = selected or [row for row in of_split if row.checkpoint == "live"]
        if not selected:
            raise ConfigError(f"{place}: no {split} rows here; name a finished run or a directory of runs")
        rows += selected
    return list(dict.fromkeys(rows))  # places may overlap


def classes_at(query: ReportQuery, groups: Sequence[ComparisonGroup]) -> dict[ClassScoresKey, ClassScores]:
    """Scores per class, where outcomes per example are stored."""
    from distcond.evaluation.by_class import classes_of  # imports torch

    run_dirs = run_dirs_below(*query.roots)
    return {key: scores for group in groups for key, scores in classes_of(group, run_dirs).items()}


def class_figures(
    groups: Sequence[ComparisonGroup], classes: dict[ClassScoresKey, ClassScores], folder: Path
) -> list[Path | None]:
    """Draw one figure per run and attack with scores per class; returns their paths."""
    titled = []
    for group in groups:
        for line, points in zip(group.lines, group.points_by_line, strict=True):
            keys = {point.at: ClassScoresKey(group.attack, point.at, point.name) for point in points}
            scores = {at: classes[key] for at, key in keys.items() if key in classes}
            parts = (shared_title([line])[0], group.attack, points[0].name if points else "")
            titled += [(" · ".join(filter(None, parts)), scores)] if scores else []
    paths = [folder / ("classes.png" if len(titled) == 1 else f"classes-{i}.png") for i in range(1, len(titled) + 1)]
    return [per_class_png(scores, title, path) for (title, scores), path in zip(titled, paths, strict=True)]


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
