"""Operating points as lines of plain characters: SA and RA with their intervals on a scale from 0 to 100 %."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distcond.results.operating import Operating
from distcond.results.series import Score

WIDTH = 61
"""Columns of the scale: an odd number, so that 50 % has one of its own."""
TICKS = (0, 25, 50, 75, 100)


def chart(points: Sequence[Operating], marks: Mapping[Operating, str]) -> str:
    """One line per point: its mark, where it is, S at its SA and R at its RA (B where both meet), dashes between the
    ends of the 95 % intervals, FLOPs at the end where they differ."""
    names = [str(point) for point in points]
    size = max(map(len, names))
    prices = [f"  {p.flops:.3g}" if p.flops is not None else "" for p in points]
    last = prices if len(set(prices)) > 1 else [""] * len(points)
    rows = [
        f"{marks.get(point, ''):1} {name:<{size}}  {scale(point.sa, point.ra)}{price}".rstrip()
        for point, name, price in zip(points, names, last, strict=True)
    ]
    head = f"{'':{size + 4}}{_ticks()}{'  FLOPs' if any(last) else ''}"
    return "\n".join([head, *rows])


def scale(sa: Score, ra: Score) -> str:
    """The scale of one point, `WIDTH` characters."""
    cells = [" "] * WIDTH
    for tick in TICKS:
        cells[_column(tick / 100)] = "."
    for score in (ra, sa):
        first, last = (_column(end) for end in score.interval)
        cells[first : last + 1] = "-" * (last + 1 - first)
    at_ra, at_sa = _column(ra.accuracy), _column(sa.accuracy)
    cells[at_ra] = "R"
    cells[at_sa] = "B" if at_ra == at_sa else "S"
    return "".join(cells)


def _column(accuracy: float) -> int:
    return round(accuracy * (WIDTH - 1))


def _ticks() -> str:
    cells = [" "] * (WIDTH + 2)
    for tick in TICKS:
        start = max(0, _column(tick / 100) - len(str(tick)) // 2)
        cells[start : start + len(str(tick))] = str(tick)
    return "".join(cells).rstrip()
