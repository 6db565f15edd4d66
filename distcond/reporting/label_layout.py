"""Label layout: labels at the points of curves that cover no other label, marker or line. All lengths in pixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

XY = tuple[float, float]
# Up and to the right first: above a curve that falls there is room. Close places before far ones.
ANGLES = (45, 30, 60, 15, 75, 0, 90, 225, 210, 240, 195, 255, 180, 270, 120, 150, 300, 330)
FONT_SIZE = 9.5
DISTANCES = (0.8, 1.1, 1.7, 2.6, 3.6)


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def around(self, margin: float) -> Box:
        """The same box, larger by `margin` on every side (smaller if negative)."""
        return Box(self.left - margin, self.bottom - margin, self.right + margin, self.top + margin)

    def holds(self, point: XY) -> bool:
        """Whether the point lies inside."""
        return self.left < point[0] < self.right and self.bottom < point[1] < self.top

    def nearest(self, point: XY) -> XY:
        """The place in the box that is nearest to the point."""
        return min(max(point[0], self.left), self.right), min(max(point[1], self.bottom), self.top)

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        overlap = self.left < other.right and other.left < self.right
        return overlap and self.bottom < other.top and other.bottom < self.top

    def within(self, other: Box) -> bool:
        """Whether this box lies inside the other."""
        lower = other.left <= self.left and other.bottom <= self.bottom
        return lower and self.right <= other.right and self.top <= other.top


def place_labels(
    points: Sequence[XY],
    sizes: Sequence[XY],
    lines: Iterable[Sequence[XY]],
    bounds: Box,
    faint: Iterable[Sequence[XY]] = (),
) -> list[Box | None]:
    """A box for each point's label, or None where no place is free.

    Labels are placed in the order given. `sizes` are widths and heights; `lines` are polylines to keep clear of,
    besides the points themselves; boxes stay inside `bounds`. Lines in `faint` are crossed where the only other
    choice is a place much further away.
    """
    height = max((size[1] for size in sizes), default=1.0)
    ink = [dot for line in lines for dot in _points_along(line, height / 3)]
    dust = [dot for line in faint for dot in _points_along(line, height / 3)]
    boxes: list[Box | None] = []
    for point, size in zip(points, sizes, strict=True):
        taken = [box for box in boxes if box]
        free = [c for c in _candidates(point, size) if _is_free(c[1], taken, points, ink, bounds)]
        boxes.append(_cheapest(free, dust, height / 6))
    return boxes


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
    boxes = place_labels(points, sizes, paths, Box(left, bottom, right, top).around(-2), bars)
    for label, point, box in zip(labels, points, boxes, strict=True):
        if box:
            _write(axes, label, point, box)


def _candidates(point: XY, size: XY) -> Iterable[tuple[float, Box]]:
    """Boxes around the point with their distances, in label heights."""
    for distance in DISTANCES:
        for angle in ANGLES:
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x = point[0] + cos * (distance * size[1] + size[0] / 2)
            y = point[1] + sin * (distance * size[1] + size[1] / 2)
            yield distance, Box(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)


def _cheapest(places: list[tuple[float, Box]], dust: list[XY], margin: float) -> Box | None:
    """The nearest box, the first among equals; one that covers something faint counts as 1.5 heights further away."""
    costs = [distance + 1.5 * any(box.around(margin).holds(dot) for dot in dust) for distance, box in places]
    return places[costs.index(min(costs))][1] if costs else None


def _is_free(box: Box, taken: list[Box], points: Sequence[XY], ink: list[XY], bounds: Box) -> bool:
    height = box.top - box.bottom
    if not box.within(bounds) or any(box.around(height / 4).meets(other) for other in taken):
        return False
    # Markers are about as large as a label is high.
    near, wide = box.around(height / 3), box.around(0.6 * height)
    return not any(map(wide.holds, points)) and not any(map(near.holds, ink))


def _points_along(line: Sequence[XY], spacing: float) -> Iterable[XY]:
    """Points along a polyline, no further apart than `spacing`."""
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        count = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / spacing))
        yield from ((x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(count + 1))


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
