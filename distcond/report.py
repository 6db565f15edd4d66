"""Read results and choose an operating point: `python -m distcond.report RUN_DIR_OR_ROOT ... [WORD=VALUE ...]`.

    python -m distcond.report runs                                   every run below a folder, overlaid
    python -m distcond.report runs/float-... sa=0.8 ra=0.3           the cheapest point that reaches both
    python -m distcond.report runs ra=30% by=interval html=curves.html
    python -m distcond.report sweeps/noise_scale                     a sweep of distcond.tune: SWEEP_DIR/report

A folder may be a URI (s3://BUCKET/RUNS): see docs/storage.md.

Prints the tables, then for each attack, threat, noise mode and image set the operating points on a scale with their
95 % intervals, the Pareto set, the hypervolume and the knee, and draws one figure. Across these nothing is compared;
where several were measured at a point, the lowest SA and RA decide whether it is chosen, and the line says whose.

  sa=LEVEL ra=LEVEL    choose the point with the fewest FLOPs whose SA and RA are at least this: 0.8 or 80%
  by=estimate          what must reach the levels: the measured accuracy, or (interval) the lower end of its interval
  reference=SA,RA      where the hypervolume is counted from; 0,0
  split=test           rows of which split: test or val. A point chosen on test rows looks better on them than it is;
                       choose on val, or with python -m distcond.calibrate, which never looks at test
  classes=true         SA and RA of each class too, where evaluate kept what became of every example; of more than 20
                       classes the ten with the lowest RA (classes=all: every one)
  png=FILE             where the figure goes; curves.png in the first folder, and with classes classes.png beside it
  html=FILE            one page with everything in it, which works offline: a slider over lam moves every panel
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
    """Answer a question about the best checkpoints of all runs found."""
    if not argv or argv[0] in ("--help", "-h"):
        print(__doc__)
        return 0
    words = [str(fetched(word)) if is_uri(word) else word for word in argv]
    if is_sweep(words[0]):
        print(report(words[0]))
        return 0
    question = parse_query(words)
    demand, reference, png, html = question.demand, question.reference, question.png, question.html
    rows = rows_at(question.roots, question.split)
    costs: dict[PointKey, InferenceCost] = costs_below(*question.roots)
    swept = swept_settings_below(*question.roots)
    fields = comparison_groups(rows, costs, swept)
    classes = classes_at(question, fields) if question.classes else {}
    said = [trade_off_table(rows), threat_table(rows), *(comparison_text(field, reference) for field in fields)]
    chosen = choose_points(fields, demand) if demand else []
    said += [choice_text(chosen, demand)] if demand else []
    said += [per_class_tables(classes, question.every_class)] if question.classes else []
    print("\n\n".join(filter(None, said)))
    taken = [(c.best.point.sa.accuracy, c.best.point.ra.accuracy) for c in chosen if c.meets]
    drawn = [trade_off_png(rows, png, taken, swept), *class_figures(fields, classes, png.parent)]
    for path in filter(None, drawn):
        print(f"\nfigure: {path}")
    if html:
        print(f"page: {write_page(fields, html, reference, classes)}")
    return 0


def fetched(uri: str) -> Path:
    """What lies at a URI, without checkpoints, on this machine."""
    from distcond.runs.run_cache import fetch_run  # torch: only where it is needed

    return fetch_run(uri, checkpoints=False)


def rows_at(places: Sequence[Path], split: str) -> list[Row]:
    """Rows of the best checkpoints on one split; on val, where none was swept, of the network as it trained."""
    rows = list[Row]()
    runs = {run_dir: name_pairs(of_run, run_dir) for run_dir, of_run in read_runs(places).items()}
    for place in places:
        below = [held for run_dir, held in runs.items() if run_dir.is_relative_to(place.resolve())]
        held = [row for of_run in below for row in of_run if row.split == split]
        # A pair has one checkpoint, whichever of its runs it was made of.
        found = [row for row in held if row.checkpoint == "best" or is_pair(row.method)]
        found = found or [row for row in held if row.checkpoint == "live"]
        if not found:
            raise ConfigError(f"{place}: no {split} rows here; name a finished run or a directory of runs")
        rows += found
    return list(dict.fromkeys(rows))  # a run that two places hold is one


def classes_at(question: ReportQuery, fields: Sequence[ComparisonGroup]) -> dict[ClassScoresKey, ClassScores]:
    """The classes' scores wherever outcomes were kept."""
    from distcond.evaluation.by_class import classes_of  # torch and the data: only where they are needed

    run_dirs = run_dirs_below(*question.roots)
    return {known: scores for field in fields for known, scores in classes_of(field, run_dirs).items()}


def class_figures(
    fields: Sequence[ComparisonGroup], classes: dict[ClassScoresKey, ClassScores], folder: Path
) -> list[Path | None]:
    """One figure per run and attack whose classes are known."""
    titled = []
    for field in fields:
        for line, points in zip(field.lines, field.on_line, strict=True):
            keys = {point.at: ClassScoresKey(field.attack, point.at, point.name) for point in points}
            found = {at: classes[key] for at, key in keys.items() if key in classes}
            words = (shared_title([line])[0], field.attack, points[0].name if points else "")
            titled += [(" · ".join(filter(None, words)), found)] if found else []
    paths = [folder / ("classes.png" if len(titled) == 1 else f"classes-{i}.png") for i in range(1, len(titled) + 1)]
    return [per_class_png(found, title, path) for (title, found), path in zip(titled, paths, strict=True)]


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
