"""The trade-off between accuracy and robustness as a PNG: SA against RA, and both over lam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from distcond.reporting.label_layout import Label, annotate
from distcond.reporting.mpl_style import (
    COLOURS,
    FAINT,
    GREY,
    INK,
    MARKERS,
    has_matplotlib,
    lam_colour,
    new_figure,
    save_png,
    style_axes,
)
from distcond.results.lines import Line, dial_label, line_names, lines_from_rows, shared_title
from distcond.results.row import Row
from distcond.results.series import Score
from distcond.results.swept import SweptSetting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND_MAX_CHARS = 130
#: Points are labelled for up to this many lines; with more, labels would overlap.
MAX_LABELLED_LINES = 4


class LineStyle(NamedTuple):
    """The style of one line: stroke and label colour (SA against RA), colours over lam, marker, legend entry."""

    stroke: str
    text: str
    sa: str
    ra: str
    marker: str
    name: str


def trade_off_png(
    rows: Iterable[Row],
    path: Path | str,
    chosen: Sequence[tuple[float, float]] = (),
    swept: Mapping[str, SweptSetting] | None = None,
    others: Sequence[tuple[float, float]] = (),
) -> Path | None:
    """Draw a line per run, width and attack to `path` and return it.

    Returns None without rows, and without matplotlib, which logs one line.

    Args:
        rows: Rows of any number of runs.
        path: The file to write.
        chosen: (SA, RA) in [0, 1] of points to mark with a ring.
        swept: By run_id; the runs of one sweep with a single point each form one line.
        others: (SA, RA) in [0, 1] of further points, which are drawn as dots.
    """
    lines = lines_from_rows(rows, swept)
    if not lines or not has_matplotlib():
        return None
    return save_png(draw_trade_off(lines, chosen, others), Path(path))


def draw_trade_off(
    lines: Sequence[Line], chosen: Sequence[tuple[float, float]] = (), others: Sequence[tuple[float, float]] = ()
) -> Figure:
    """The figure: SA against RA on the left (if RA was measured), accuracies over lam on the right."""
    styles = line_styles(line_names(lines))
    columns, legend_rows = _legend_shape([style.name for style in styles])
    has_ra = any(line.pairs() for line in lines)
    figure = new_figure(*shared_title(lines), width=11.5 if has_ra else 7.5, height=5.2 + 0.26 * legend_rows)
    panels = figure.subplots(1, 2 if has_ra else 1, squeeze=False)[0]
    plot_over_lam(panels[-1], lines, styles)
    if legend_rows:
        _legend(figure, styles, columns)
    if has_ra:
        _plot_others(panels[0], others)
        plot_trade_off(panels[0], lines, styles)
        mark_chosen(panels[0], chosen)
    # Free space for labels is measured in pixels, so the layout must be final.
    figure.canvas.draw()
    figure.set_layout_engine("none")
    if has_ra and len(lines) <= MAX_LABELLED_LINES:
        label_points(panels[0], lines, styles)
    return figure


def line_styles(names: Sequence[str]) -> list[LineStyle]:
    """A style for each line. A single line has one colour for SA and one for RA instead."""
    if len(names) == 1:
        return [LineStyle(GREY, INK, COLOURS[0], COLOURS[1], MARKERS[0], names[0])]
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    markers = [MARKERS[i % len(MARKERS)] for i in range(len(names))]
    return [LineStyle(c, c, c, c, marker, name) for c, marker, name in zip(colours, markers, names, strict=True)]


def marker_style(marker: str, size: float) -> dict[str, Any]:
    """Keyword arguments for `Axes.plot`: markers with a white edge."""
    return {"marker": marker, "markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.9, "linewidth": 2}


def plot_trade_off(axes: Axes, lines: Sequence[Line], styles: Sequence[LineStyle]) -> None:
    """Plot SA against RA with 95 % error bars. Points of a single line are coloured by lam."""
    dial = dial_label(lines) + (" or the swept setting" if any(line.swept for line in lines) else "")
    along = f"labelled with {dial}" if len(lines) <= MAX_LABELLED_LINES else f"along {dial}"
    style_axes(axes, "robust accuracy (RA), %", "standard accuracy (SA), %", f"SA against RA, {along}")
    for line, style in zip(lines, styles, strict=True):
        lams, sa, ra = (list(column) for column in zip(*line.pairs(), strict=True)) if line.pairs() else ([], [], [])
        x, y = _percents(ra), _percents(sa)
        axes.errorbar(x, y, xerr=_bars(ra), yerr=_bars(sa), fmt="none", ecolor=style.stroke, elinewidth=0.9, alpha=0.4)
        axes.plot(x, y, color=style.stroke, zorder=3, **marker_style(style.marker, 7.5))
        colours = [lam_colour(lam) if len(lines) == 1 else style.stroke for lam in lams]
        axes.scatter(x, y, 60, colours, marker=style.marker, edgecolors="white", linewidths=0.9, zorder=4)
    _widen_limits(axes)


def _plot_others(axes: Axes, others: Sequence[tuple[float, float]]) -> None:
    """Draw a grey dot at each (SA, RA) in [0, 1]: points of runs without a line of their own."""
    if others:
        sa, ra = ([100 * value for value in column] for column in zip(*others, strict=True))
        axes.scatter(ra, sa, 6, GREY, alpha=0.4, linewidths=0, zorder=1, label=f"{len(others):,} other points")
        axes.legend(frameon=False, fontsize=10)


def mark_chosen(axes: Axes, chosen: Sequence[tuple[float, float]]) -> None:
    """Draw a ring around each chosen (SA, RA) in [0, 1]."""
    if chosen:
        sa, ra = ([100 * value for value in column] for column in zip(*chosen, strict=True))
        axes.scatter(ra, sa, 240, label="chosen", facecolors="none", edgecolors=INK, linewidths=1.5, zorder=6)
        axes.legend(frameon=False, fontsize=10, handlelength=3)


def plot_over_lam(axes: Axes, lines: Sequence[Line], styles: Sequence[LineStyle]) -> None:
    """Plot SA (solid) and RA (dashed) over lam with 95 % bands."""
    shown: dict[str, tuple[str, str, str]] = {}
    for line, style in zip(lines, styles, strict=True):
        sa = [(point.at.point.position, point.sa) for point in line.points if point.sa]
        ra = [(point.at.point.position, point.ra) for point in line.points if point.ra]
        for name, scores, style_of_score in (("SA", sa, (style.sa, "-", "o")), ("RA", ra, (style.ra, "--", "s"))):
            if scores:
                _plot_curve(axes, scores, *style_of_score)
                shown[name] = style_of_score if len(lines) == 1 else (FAINT, *style_of_score[1:])
    for name, (colour, dash, marker) in shown.items():
        axes.plot([], [], color=colour, linestyle=dash, label=name, **marker_style(marker, 7))
    dial = dial_label(lines)
    style_axes(
        axes,
        f"{dial}  (0 = standard, 1 = robust)",
        "accuracy, %",
        f"{' and '.join(shown)} over {dial}, 95 % bands",
    )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=10, handlelength=3)


def label_points(axes: Axes, lines: Sequence[Line], styles: Sequence[LineStyle]) -> None:
    """Label the points of `plot_trade_off` with lam. Call it when the layout is final."""
    annotate(axes, [_labels(line, style.text) for line, style in zip(lines, styles, strict=True)])


def _labels(line: Line, colour: str) -> list[Label]:
    labels = []
    for number, (lam, sa, ra) in enumerate(line.pairs()):
        x, y = 100 * ra.accuracy, 100 * sa.accuracy
        across = ((100 * ra.interval.low, y), (100 * ra.interval.high, y))
        up = ((x, 100 * sa.interval.low), (x, 100 * sa.interval.high))
        value = line.swept[number].value if line.swept else lam
        labels.append(Label(x, y, f"{value:.3g}", colour, (across, up)))
    return labels


def _plot_curve(axes: Axes, scores: Sequence[tuple[float, Score]], colour: str, dash: str, marker: str) -> None:
    lams, values = [lam for lam, _ in scores], [score for _, score in scores]
    low, high = [100 * s.interval.low for s in values], [100 * s.interval.high for s in values]
    axes.fill_between(lams, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(lams, _percents(values), color=colour, linestyle=dash, **marker_style(marker, 6))


def _percents(scores: Iterable[Score]) -> list[float]:
    return [100 * score.accuracy for score in scores]


def _bars(scores: Sequence[Score]) -> list[list[float]]:
    """Distances to both ends of the interval in %, shape (2, N), for `Axes.errorbar`."""
    below = [100 * (score.accuracy - score.interval.low) for score in scores]
    return [below, [100 * (score.interval.high - score.accuracy) for score in scores]]


def _widen_limits(axes: Axes) -> None:
    """Leave space for labels, and show at least 8 points of accuracy, so that noise does not look like a trend."""
    for limits, set_limits in ((axes.get_xlim(), axes.set_xlim), (axes.get_ylim(), axes.set_ylim)):
        middle, half = sum(limits) / 2, max(4.0, 1.16 * (limits[1] - limits[0])) / 2
        set_limits(max(middle - half, -3), min(middle + half, 102))


def _legend_shape(names: Sequence[str]) -> tuple[int, int]:
    """Columns and rows of the legend below the panels; no rows for a single line."""
    columns = max(1, min(4, len(names), LEGEND_MAX_CHARS // (max(map(len, names)) + 10)))
    return columns, 0 if len(names) == 1 else -(-len(names) // columns)


def _legend(figure: Figure, styles: Sequence[LineStyle], columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=style.stroke, label=style.name, **marker_style(style.marker, 7.5)) for style in styles
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=10)
