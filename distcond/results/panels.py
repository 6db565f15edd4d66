"""The two panels of the trade-off figure: SA against RA, and both over lam."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from distcond.results.annotate import Label, annotate
from distcond.results.canvas import COLOURS, FAINT, GREY, INK, MARKERS, dress, lam_colour
from distcond.results.lines import Line
from distcond.results.series import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELLED_LINES = 4
"""Up to so many lines have their points labelled; more of them would only hide each other's."""


class Style(NamedTuple):
    """How one line looks: its stroke and labels against RA, its colours over lam, its marker, its legend entry."""

    stroke: str
    text: str
    sa: str
    ra: str
    marker: str
    name: str


def styles_of(names: Sequence[str]) -> list[Style]:
    """A style for each named line; a line that stands alone has one colour for SA and one for RA instead."""
    if len(names) == 1:
        return [Style(GREY, INK, COLOURS[0], COLOURS[1], MARKERS[0], names[0])]
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    markers = [MARKERS[i % len(MARKERS)] for i in range(len(names))]
    return [Style(c, c, c, c, marker, name) for c, marker, name in zip(colours, markers, names, strict=True)]


def marks(marker: str, size: float) -> dict[str, Any]:
    """How every line is stroked and marked: markers are set apart by a white edge."""
    return {"marker": marker, "markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.9, "linewidth": 2}


def trade_off(axes: Axes, lines: Sequence[Line], styles: Sequence[Style]) -> None:
    """SA against RA, a point per lam with its 95 % bars; of a line alone, points run from the SA to the RA colour."""
    along = "labelled with λ" if len(lines) <= LABELLED_LINES else "along λ"
    dress(axes, "robust accuracy (RA), %", "standard accuracy (SA), %", f"SA against RA, {along}")
    for line, style in zip(lines, styles, strict=True):
        lams, sa, ra = (list(column) for column in zip(*line.pairs(), strict=True)) if line.pairs() else ([], [], [])
        x, y = _percents(ra), _percents(sa)
        axes.errorbar(x, y, xerr=_bars(ra), yerr=_bars(sa), fmt="none", ecolor=style.stroke, elinewidth=0.9, alpha=0.4)
        axes.plot(x, y, color=style.stroke, zorder=3, **marks(style.marker, 7.5))
        colours = [lam_colour(lam) if len(lines) == 1 else style.stroke for lam in lams]
        axes.scatter(x, y, 60, colours, marker=style.marker, edgecolors="white", linewidths=0.9, zorder=4)
    _widen(axes)


def over_lam(axes: Axes, lines: Sequence[Line], styles: Sequence[Style]) -> None:
    """SA (solid) and RA (dashed) over lam with 95 % bands."""
    shown: dict[str, tuple[str, str, str]] = {}
    for line, style in zip(lines, styles, strict=True):
        sa = [(point.lam, point.sa) for point in line.points if point.sa]
        ra = [(point.lam, point.ra) for point in line.points if point.ra]
        for name, scores, look in (("SA", sa, (style.sa, "-", "o")), ("RA", ra, (style.ra, "--", "s"))):
            if scores:
                _curve(axes, scores, *look)
                shown[name] = look if len(lines) == 1 else (FAINT, *look[1:])
    for name, (colour, dash, marker) in shown.items():
        axes.plot([], [], color=colour, linestyle=dash, label=name, **marks(marker, 7))
    dress(axes, "λ  (0 = standard, 1 = robust)", "accuracy, %", f"{' and '.join(shown)} over λ, with 95 % bands")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=10, handlelength=3)


def label_points(axes: Axes, lines: Sequence[Line], styles: Sequence[Style]) -> None:
    """Write lam at the points of `trade_off`; call it when the layout is final."""
    annotate(axes, [_labels(line, style.text) for line, style in zip(lines, styles, strict=True)])


def _labels(line: Line, colour: str) -> list[Label]:
    labels = []
    for lam, sa, ra in line.pairs():
        x, y = 100 * ra.accuracy, 100 * sa.accuracy
        across = ((100 * ra.interval.low, y), (100 * ra.interval.high, y))
        up = ((x, 100 * sa.interval.low), (x, 100 * sa.interval.high))
        labels.append(Label(x, y, f"{lam:.3g}", colour, (across, up)))
    return labels


def _curve(axes: Axes, scores: Sequence[tuple[float, Score]], colour: str, dash: str, marker: str) -> None:
    lams, values = [lam for lam, _ in scores], [score for _, score in scores]
    low, high = [100 * s.interval.low for s in values], [100 * s.interval.high for s in values]
    axes.fill_between(lams, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(lams, _percents(values), color=colour, linestyle=dash, **marks(marker, 6))


def _percents(scores: Iterable[Score]) -> list[float]:
    return [100 * score.accuracy for score in scores]


def _bars(scores: Sequence[Score]) -> list[list[float]]:
    """Distances to both ends of the interval, as `errorbar` wants them: (2, N) in %."""
    below = [100 * (score.accuracy - score.interval.low) for score in scores]
    return [below, [100 * (score.interval.high - score.accuracy) for score in scores]]


def _widen(axes: Axes) -> None:
    """Room for labels, and no less than 4 points of accuracy, so that noise does not look like a trend."""
    for limits, set_limits in ((axes.get_xlim(), axes.set_xlim), (axes.get_ylim(), axes.set_ylim)):
        middle, half = sum(limits) / 2, max(4.0, 1.16 * (limits[1] - limits[0])) / 2
        set_limits(max(middle - half, -3), min(middle + half, 102))
