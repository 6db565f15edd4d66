"""Operating points that can be compared: a run at one lam and width, with both accuracies and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from distcond.results.cost import At, Spent
from distcond.results.label import attack_label, threat_label
from distcond.results.lines import Line, lines_of, names_of
from distcond.results.row import Row
from distcond.results.series import Score, source


class Operating(NamedTuple):
    """Where one network can stand. `flops` of one image, multiplications with zero weights left out; None = unknown."""

    at: At
    name: str
    sa: Score
    ra: Score
    density: float
    flops: float | None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f"lam {self.at.lam:.3g}" + (f", width {self.at.width:g}" if self.at.width != 1 else "")
        return f"{self.name}, {place}" if self.name else place


class Field(NamedTuple):
    """Lines measured on the same images under the same attack, and the operating points on each of them."""

    attack: str
    lines: list[Line]
    names: list[str]
    on_line: list[list[Operating]]

    @property
    def points(self) -> list[Operating]:
        """All of them."""
        return [point for points in self.on_line for point in points]


def fields_of(rows: Iterable[Row], costs: Mapping[At, Spent] | None = None) -> list[Field]:
    """The rows' operating points, apart by data set, split, attack and threat model: across these nothing compares.

    Points where only one of SA and RA was measured are left out, and with them fields that have no other.
    """
    groups: dict[tuple[object, ...], list[Line]] = {}
    for line in lines_of(rows):
        if line.series.attack and line.pairs():
            groups.setdefault(_same_game(line), []).append(line)
    return [_field(lines, costs or {}) for lines in groups.values()]


def _same_game(line: Line) -> tuple[object, ...]:
    origin = line.series.origin
    return origin.dataset, origin.split, line.series.attack, origin.threat, source(origin)


def _field(lines: list[Line], costs: Mapping[At, Spent]) -> Field:
    names, attack = names_of(lines), lines[0].series.attack
    assert attack is not None
    on_line = [_points(line, _plain(name, lines), costs) for line, name in zip(lines, names, strict=True)]
    origin = lines[0].series.origin
    label = ", ".join(filter(None, (attack_label(attack), threat_label(origin.threat, origin.attack_lam))))
    return Field(label, lines, names, on_line)


def _plain(name: str, lines: Sequence[Line]) -> str:
    """A line's name without its width, which a point says itself."""
    widths = {f"width {line.width:g}" for line in lines}
    return ", ".join(part for part in name.split(", ") if part not in widths)


def _points(line: Line, name: str, costs: Mapping[At, Spent]) -> list[Operating]:
    found = []
    for point in line.points:
        if point.sa and point.ra:
            at = At(line.series.origin.run_id, round(point.lam, 6), round(point.width, 6))
            flops = costs[at].flops if at in costs else None
            found.append(Operating(at, name, point.sa, point.ra, point.density, flops, point.warnings))
    return found
