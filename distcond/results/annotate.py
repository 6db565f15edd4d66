"""Labels at the points of curves, placed so that none covers another, a marker or a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from distcond.results.place import XY, Box, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT_SIZE = 9.5


class Label(NamedTuple):
    """A text for the point (x, y), in the units of the axes; `bars` are the ends of the point's error bars."""

    x: float
    y: float
    text: str
    colour: str
    bars: tuple[tuple[XY, XY], ...] = ()


def annotate(axes: Axes, curves: Sequence[Sequence[Label]]) -> None:
    """Label the points of each curve: the ends of all curves first, then what still finds room.

    Call it when the figure's layout is final: a label's free place is a matter of pixels.
    """
    labels = [label for _, label in sorted(pair for curve in curves for pair in _ranked(curve))]
    points = [_pixel(axes, label.x, label.y) for label in labels]
    sizes = [_size(axes, label) for label in labels]
    paths = [[_pixel(axes, label.x, label.y) for label in curve] for curve in curves]
    bars = [[_pixel(axes, *end) for end in bar] for label in labels for bar in label.bars]
    left, bottom, right, top = axes.bbox.extents
    boxes = place(points, sizes, paths, Box(left, bottom, right, top).around(-2), bars)
    for label, point, box in zip(labels, points, boxes, strict=True):
        if box:
            _write(axes, label, point, box)


def _ranked(curve: Sequence[Label]) -> list[tuple[int, Label]]:
    """Ends get rank 0; then every second point, so that what finds no room leaves even gaps."""
    last = len(curve) - 1
    return [(0 if i in (0, last) else 1 + i % 2, label) for i, label in enumerate(curve)]


def _pixel(axes: Axes, x: float, y: float) -> XY:
    right, up = axes.transData.transform((x, y))
    return float(right), float(up)


def _size(axes: Axes, label: Label) -> XY:
    text = axes.text(0, 0, label.text, size=FONT_SIZE, weight="bold")
    box = text.get_window_extent()
    text.remove()
    return float(box.width), float(box.height)


def _write(axes: Axes, label: Label, point: XY, box: Box) -> None:
    x, y = axes.transData.inverted().transform(((box.left + box.right) / 2, (box.bottom + box.top) / 2))
    near = box.nearest(point)
    if math.dist(near, point) > 1.3 * (box.top - box.bottom):
        x_near, y_near = axes.transData.inverted().transform(near)
        axes.plot([label.x, x_near], [label.y, y_near], color="#999999", linewidth=0.7, zorder=1.5)
    axes.text(x, y, label.text, ha="center", va="center", size=FONT_SIZE, weight="bold", color=label.colour, zorder=5)
