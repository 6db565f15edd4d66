"""Label layout: labels at the points of curves that overlap no other label, marker or line. Lengths are in pixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

XY = tuple[float, float]
# Candidate positions, by preference: up and to the right first, where a falling curve leaves space.
ANGLES = (45, 30, 60, 15, 75, 0, 90, 225, 210, 240, 195, 255, 180, 270, 120, 150, 300, 330)
FONT_SIZE = 9.5
DISTANCES = (0.8, 1.1, 1.7, 2.6, 3.6)


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def enlarged(self, margin: float) -> Box:
        """The box enlarged by `margin` on every side (shrunk if negative)."""
        return Box(self.left - margin, self.bottom - margin, self.right + margin, self.top + margin)

    def contains(self, point: XY) -> bool:
        """Whether the point is inside."""
        return self.left < point[0] < self.right and self.bottom < point[1] < self.top

    def nearest(self, point: XY) -> XY:
        """The position in the box nearest to the point."""
        return min(max(point[0], self.left), self.right), min(max(point[1], self.bottom), self.top)

    def overlaps(self, other: Box) -> bool:
        """Whether the two boxes overlap."""
        horizontally = self.left < other.right and other.left < self.right
        return horizontally and self.bottom < other.top and other.bottom < self.top

    def within(self, other: Box) -> bool:
        """Whether this box is inside the other."""
        lower = other.left <= self.left and other.bottom <= self.bottom
        return lower and self.right <= other.right and self.top <= other.top


def place_labels(
    points: Sequence[XY],
    sizes: Sequence[XY],
    lines: Iterable[Sequence[XY]],
    bounds: Box,
    faint: Iterable[Sequence[XY]] = (),
) -> list[Box | None]:
    """A box for each point's label, or None if no position is free.

    Args:
        points: The points to label, in order of priority.
        sizes: Width and height of each label.
        lines: Polylines that labels must not overlap.
        bounds: Labels stay inside.
        faint: Polylines that labels overlap only if the alternative is much further away.
    """
    height = max((size[1] for size in sizes), default=1.0)
    hard = [dot for line in lines for dot in _points_along(line, height / 3)]
    soft = [dot for line in faint for dot in _points_along(line, height / 3)]
    boxes: list[Box | None] = []
    for point, size in zip(points, sizes, strict=True):
        used = [box for box in boxes if box]
        free = [c for c in _candidates(point, size) if _is_free(c[1], used, points, hard, bounds)]
        boxes.append(_cheapest(free, soft, height / 6))
    return boxes


class Label(NamedTuple):
    """A label for the point (x, y) in data units. `bars` are the ends of the point's error bars."""

    x: float
    y: float
    text: str
    colour: str
    bars: tuple[tuple[XY, XY], ...] = ()


def annotate(axes: Axes, curves: Sequence[Sequence[Label]]) -> None:
    """Label the points of each curve, the ends of all curves first, then the others as space permits.

    Call it when the figure's layout is final, since positions are computed in pixels.
    """
    labels = [label for _, label in sorted(pair for curve in curves for pair in _ranked(curve))]
    points = [_pixel(axes, label.x, label.y) for label in labels]
    sizes = [_size(axes, label) for label in labels]
    paths = [[_pixel(axes, label.x, label.y) for label in curve] for curve in curves]
    bars = [[_pixel(axes, *end) for end in bar] for label in labels for bar in label.bars]
    left, bottom, right, top = axes.bbox.extents
    boxes = place_labels(points, sizes, paths, Box(left, bottom, right, top).enlarged(-2), bars)
    for label, point, box in zip(labels, points, boxes, strict=True):
        if box:
            _write(axes, label, point, box)


def _candidates(point: XY, size: XY) -> Iterable[tuple[float, Box]]:
    """Boxes around the point with their distances in label heights."""
    for distance in DISTANCES:
        for angle in ANGLES:
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x = point[0] + cos * (distance * size[1] + size[0] / 2)
            y = point[1] + sin * (distance * size[1] + size[1] / 2)
            yield distance, Box(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)


def _cheapest(candidates: list[tuple[float, Box]], soft: list[XY], margin: float) -> Box | None:
    """The nearest box, the first of equals. Overlap with a faint line counts as 1.5 heights of distance."""
    costs = [distance + 1.5 * any(box.enlarged(margin).contains(dot) for dot in soft) for distance, box in candidates]
    return candidates[costs.index(min(costs))][1] if costs else None


def _is_free(box: Box, used: list[Box], points: Sequence[XY], hard: list[XY], bounds: Box) -> bool:
    height = box.top - box.bottom
    if not box.within(bounds) or any(box.enlarged(height / 4).overlaps(other) for other in used):
        return False
    # A marker is about as large as a label is high.
    near, wide = box.enlarged(height / 3), box.enlarged(0.6 * height)
    return not any(map(wide.contains, points)) and not any(map(near.contains, hard))


def _points_along(line: Sequence[XY], spacing: float) -> Iterable[XY]:
    """Points along a polyline, at most `spacing` apart."""
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        count = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / spacing))
        yield from ((x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(count + 1))


def _ranked(curve: Sequence[Label]) -> list[tuple[int, Label]]:
    """Rank 0 for the ends, then every second point, so that labels without space leave even gaps."""
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
