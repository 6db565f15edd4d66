"""SA and RA per class: counts, tables and a figure. Robustness often differs strongly between classes."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from distcond.reporting.mpl_style import INK, has_matplotlib, new_figure, save_png, style_axes
from distcond.results.labels import align_columns, align_decimals, blend_label
from distcond.results.series import PointKey, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Rows of the figure; with more classes it shows those with the lowest RA.
MAX_FIGURE_CLASSES = 20
#: Lines of a table with more than MAX_FIGURE_CLASSES classes.
MAX_TERMINAL_CLASSES = 10


class ClassScores(NamedTuple):
    """Scores of the classes that have examples, by class index."""

    classes: list[int]
    sa: list[Score]
    ra: list[Score]


class ClassScoresKey(NamedTuple):
    """The attack label of the comparison group, the network, and the name of its line.

    The name distinguishes several measurements of one network, such as two noise modes.
    """

    attack: str
    at: PointKey
    line: str = ""


def count_by_class(labels: Sequence[int], clean: Sequence[bool], robust: Sequence[bool]) -> ClassScores:
    """Count the outcomes of one operating point by class.

    Args:
        labels: The class of each of N examples.
        clean: Whether the clean image is classified correctly.
        robust: Whether the clean image and every adversarial one are.
    """
    totals = Counter(labels)
    sa, ra = (Counter(itertools.compress(labels, correct)) for correct in (clean, robust))
    classes = sorted(totals)
    assert len(labels) == len(clean) == len(robust)
    return ClassScores(classes, *([Score(correct[n], totals[n], 1) for n in classes] for correct in (sa, ra)))


def per_class_tables(classes: Mapping[ClassScoresKey, ClassScores], every: bool = False) -> str:
    """SA and RA in %: a line per class and two columns per lam, one table per run, width and attack.

    With more than `MAX_FIGURE_CLASSES` classes only the worst are shown, unless `every`.
    """
    if not classes:
        return "classes: no outcomes found; run python -m distcond.evaluate, which stores the outcome of every example"
    groups: dict[tuple[str, float, str, str, str], dict[float, ClassScores]] = {}
    for (attack, at, line), scores in classes.items():
        curve = (at.run_id, at.point.width, line, attack, blend_label(at.point.blend, at.point.lam))
        groups.setdefault(curve, {})[at.point.position] = scores
    return "\n\n".join(_class_table(curve, points, every) for curve, points in groups.items())


def _class_table(curve: tuple[str, float, str, str, str], points: Mapping[float, ClassScores], every: bool) -> str:
    run_id, width, line, attack, blend = curve
    total = len({number for point in points.values() for number in point.classes})
    rows = shown_classes(list(points.values()), total if every or total <= MAX_FIGURE_CLASSES else MAX_TERMINAL_CLASSES)
    columns = [["t" if blend else "lam", "class", *map(str, rows)]]
    for lam, text in zip(points, align_decimals(points), strict=True):
        for head, name in ((text, "sa"), ("", "ra")):
            scores = dict(zip(points[lam].classes, getattr(points[lam], name), strict=True))
            cells = [f"{100 * scores[number].accuracy:.1f}" if number in scores else "-" for number in rows]
            columns.append([head, name.upper(), *cells])
    lines = align_columns(columns, header_lines=2)
    title = ("SA and RA % by class", run_id, line, attack, blend, f"width {width:g}" if width != 1 else "")
    note = f"the {len(rows)} of {total} classes with the lowest mean RA; for all: classes=all"
    lines += [note] if len(rows) < total else []
    return "\n".join(filter(None, (" | ".join(filter(None, title)), *lines)))


def per_class_png(classes: Mapping[PointKey, ClassScores], title: str, path: Path | str) -> Path | None:
    """Draw a row per class and a column per operating point, SA left and RA right; return `path`.

    Returns None without classes, and without matplotlib, which logs one line.
    """
    if not classes or not has_matplotlib():
        return None
    rows = shown_classes(list(classes.values()))
    figure = new_figure(title, _subtitle(classes, rows), width=11.5, height=1.9 + 0.27 * len(rows))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, long in zip(panels, ("sa", "ra"), ("standard accuracy", "robust accuracy"), strict=True):
        _panel(axes, f"{long} ({name.upper()}), %", classes, name, rows)
    panels[0].set_ylabel("class", size=11, color=INK)
    return save_png(figure, Path(path))


def shown_classes(points: Sequence[ClassScores], limit: int = MAX_FIGURE_CLASSES) -> list[int]:
    """The classes to show, in order: all, or the `limit` ones with the lowest mean RA."""
    means: dict[int, list[float]] = {}
    for point in points:
        for number, score in zip(point.classes, point.ra, strict=True):
            means.setdefault(number, []).append(score.accuracy)
    lowest = sorted(means, key=lambda number: (sum(means[number]) / len(means[number]), number))
    return sorted(lowest[:limit])


def _panel(axes: Axes, title: str, classes: Mapping[PointKey, ClassScores], name: str, rows: Sequence[int]) -> None:
    values = [[math.nan] * len(classes) for _ in rows]
    for column, point in enumerate(classes.values()):
        for number, score in zip(point.classes, getattr(point, name), strict=True):
            if number in rows:
                values[rows.index(number)][column] = 100 * score.accuracy
    style_axes(axes, "t" if all(at.point.blend for at in classes) else "λ", "", title)
    axes.grid(False)
    axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row, column in itertools.product(range(len(rows)), range(len(classes))):
        value = values[row][column]
        colour = "white" if value < 55 else "black"
        axes.text(column, row, "-" if math.isnan(value) else f"{value:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(classes)), [f"{at.point.position:.3g}" for at in classes])
    axes.set_yticks(range(len(rows)), [str(number) for number in rows])


def _subtitle(classes: Mapping[PointKey, ClassScores], rows: Sequence[int]) -> str:
    points = list(classes.values())
    total = len({number for point in points for number in point.classes})
    part = f"the {len(rows)} of {total} classes with the lowest mean RA · " if total > len(rows) else ""
    sizes = sorted(score.examples_per_draw for score in points[0].ra)
    half = 100 * max(score.interval.half_width for point in points for score in (*point.sa, *point.ra))
    return f"{part}{sizes[0]} to {sizes[-1]} images per class, 95 % intervals up to ± {half:.0f} points"
