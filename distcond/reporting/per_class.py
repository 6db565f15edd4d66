"""SA and RA per class: counting, tables and a figure. Attacks spare some classes and empty others."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from distcond.reporting.mpl_style import INK, has_matplotlib, new_figure, save_png, style_axes
from distcond.results.cost import PointKey
from distcond.results.labels import align_decimals, blend_label
from distcond.results.series import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_FIGURE_CLASSES = 20
"""Up to so many classes get a row in the figure: of more, those with the lowest RA."""
MAX_TERMINAL_CLASSES = 10
"""Of more classes than that, so many get a line on a terminal."""


class ClassScores(NamedTuple):
    """Scores of the classes 0, 1, ... that have an example."""

    classes: list[int]
    sa: list[Score]
    ra: list[Score]


class ClassScoresKey(NamedTuple):
    """What scores by class belong to: the attack, as its field is called, the operating point, and its line's name.

    The name tells apart what was measured in two ways at one point, such as under two noise modes.
    """

    attack: str
    at: PointKey
    line: str = ""


def count_by_class(labels: Sequence[int], clean: Sequence[bool], robust: Sequence[bool]) -> ClassScores:
    """Count the outcomes of one operating point by class.

    Args:
        labels: the class of each example, N of them.
        clean: right on the clean image.
        robust: right on the clean image and on every attacked one.
    """
    totals = Counter(labels)
    sa, ra = (Counter(itertools.compress(labels, right)) for right in (clean, robust))
    classes = sorted(totals)
    assert len(labels) == len(clean) == len(robust)
    return ClassScores(classes, *([Score(right[n], totals[n], 1) for n in classes] for right in (sa, ra)))


def per_class_tables(found: Mapping[ClassScoresKey, ClassScores], every: bool = False) -> str:
    """SA and RA in %, a line per class and two columns per lam, one table per run, width and attack.

    Of more than `MAX_FIGURE_CLASSES` classes only the worst, unless `every` is asked for.
    """
    if not found:
        return "classes: no outcomes here; python -m distcond.evaluate keeps what became of every example"
    groups: dict[tuple[str, float, str, str, str], dict[float, ClassScores]] = {}
    for (attack, at, line), scores in found.items():
        blend = blend_label(at.blend, at.lam)
        groups.setdefault((at.run_id, at.width, line, attack, blend), {})[at.place.position] = scores
    return "\n\n".join(_class_table(place, points, every) for place, points in groups.items())


def _class_table(place: tuple[str, float, str, str, str], points: Mapping[float, ClassScores], every: bool) -> str:
    run_id, width, line, attack, blend = place
    total = len({number for point in points.values() for number in point.classes})
    rows = shown_classes(list(points.values()), total if every or total <= MAX_FIGURE_CLASSES else MAX_TERMINAL_CLASSES)
    columns = [["t" if blend else "lam", "class", *map(str, rows)]]
    for lam, text in zip(points, align_decimals(points), strict=True):
        for head, name in ((text, "sa"), ("", "ra")):
            of = dict(zip(points[lam].classes, getattr(points[lam], name), strict=True))
            cells = [f"{100 * of[number].accuracy:.1f}" if number in of else "-" for number in rows]
            columns.append([head, name.upper(), *cells])
    sizes = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.rjust(size) for cell, size in zip(cells, sizes, strict=True))
        for cells in zip(*columns, strict=True)
    ]
    lines.insert(2, "  ".join("-" * size for size in sizes))
    words = ("SA and RA % by class", run_id, line, attack, blend, f"width {width:g}" if width != 1 else "")
    more = f"the {len(rows)} of {total} classes with the lowest mean RA; all of them: classes=all"
    lines += [more] if len(rows) < total else []
    return "\n".join(filter(None, (" | ".join(filter(None, words)), *lines)))


def per_class_png(found: Mapping[PointKey, ClassScores], title: str, path: Path | str) -> Path | None:
    """A row per class and a column per operating point, SA left and RA right; return `path`.

    None where there is nothing to draw, and, after one line in the log, where matplotlib is missing.
    """
    if not found or not has_matplotlib():
        return None
    rows = shown_classes(list(found.values()))
    figure = new_figure(title, _subtitle(found, rows), width=11.5, height=1.9 + 0.27 * len(rows))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, long in zip(panels, ("sa", "ra"), ("standard accuracy", "robust accuracy"), strict=True):
        _panel(axes, f"{long} ({name.upper()}), %", found, name, rows)
    panels[0].set_ylabel("class", size=11, color=INK)
    return save_png(figure, Path(path))


def shown_classes(points: Sequence[ClassScores], limit: int = MAX_FIGURE_CLASSES) -> list[int]:
    """The classes to show, in order: all of them, or, of more than `limit`, those whose mean RA is lowest."""
    means: dict[int, list[float]] = {}
    for point in points:
        for number, score in zip(point.classes, point.ra, strict=True):
            means.setdefault(number, []).append(score.accuracy)
    lowest = sorted(means, key=lambda number: (sum(means[number]) / len(means[number]), number))
    return sorted(lowest[:limit])


def _panel(axes: Axes, title: str, found: Mapping[PointKey, ClassScores], name: str, rows: Sequence[int]) -> None:
    values = [[math.nan] * len(found) for _ in rows]
    for column, point in enumerate(found.values()):
        for number, score in zip(point.classes, getattr(point, name), strict=True):
            if number in rows:
                values[rows.index(number)][column] = 100 * score.accuracy
    style_axes(axes, "t" if all(at.blend for at in found) else "λ", "", title)
    axes.grid(False)
    axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row, column in itertools.product(range(len(rows)), range(len(found))):
        value = values[row][column]
        colour = "white" if value < 55 else "black"
        axes.text(column, row, "-" if math.isnan(value) else f"{value:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(found)), [f"{at.place.position:.3g}" for at in found])
    axes.set_yticks(range(len(rows)), [str(number) for number in rows])


def _subtitle(found: Mapping[PointKey, ClassScores], rows: Sequence[int]) -> str:
    points = list(found.values())
    total = len({number for point in points for number in point.classes})
    part = f"the {len(rows)} of {total} classes with the lowest mean RA · " if total > len(rows) else ""
    sizes = sorted(score.examples_per_draw for score in points[0].ra)
    half = 100 * max(score.interval.half_width for point in points for score in (*point.sa, *point.ra))
    return f"{part}{sizes[0]} to {sizes[-1]} images a class, so 95 % intervals reach up to ± {half:.0f} points"
