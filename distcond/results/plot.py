"""The accuracy-robustness curve as a PNG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distcond.results.canvas import has_matplotlib, new_figure, save
from distcond.results.lines import Line, lines_of, names_of, shared_title
from distcond.results.panels import LABELLED_LINES, Style, label_points, marks, over_lam, styles_of, trade_off
from distcond.results.row import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEGEND_LETTERS = 130


def trade_off_png(rows: Iterable[Row], path: Path | str) -> Path | None:
    """Draw every run, width and attack among the rows, and return `path`.

    None where no row is given, and, after one line in the log, where matplotlib is missing.
    """
    lines = lines_of(rows)
    if not lines or not has_matplotlib():
        return None
    return save(draw(lines), Path(path))


def draw(lines: Sequence[Line]) -> Figure:
    """The figure: the trade-off on the left, if RA was measured, and accuracies over lam on the right."""
    styles = styles_of(names_of(lines))
    columns, legend_rows = _legend_shape([style.name for style in styles])
    has_ra = any(line.pairs() for line in lines)
    figure = new_figure(*shared_title(lines), width=11.5 if has_ra else 7.5, height=5.2 + 0.26 * legend_rows)
    panels = figure.subplots(1, 2 if has_ra else 1, squeeze=False)[0]
    over_lam(panels[-1], lines, styles)
    if legend_rows:
        _legend(figure, styles, columns)
    if has_ra:
        trade_off(panels[0], lines, styles)
    # A label's free place is a matter of pixels, so the layout is settled first.
    figure.canvas.draw()
    figure.set_layout_engine("none")
    if has_ra and len(lines) <= LABELLED_LINES:
        label_points(panels[0], lines, styles)
    return figure


def _legend_shape(names: Sequence[str]) -> tuple[int, int]:
    """Columns and rows of the legend below the panels; a single line needs none."""
    columns = max(1, min(4, len(names), LEGEND_LETTERS // (max(map(len, names)) + 10)))
    return columns, 0 if len(names) == 1 else -(-len(names) // columns)


def _legend(figure: Figure, styles: Sequence[Style], columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=style.stroke, label=style.name, **marks(style.marker, 7.5)) for style in styles]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=10)
