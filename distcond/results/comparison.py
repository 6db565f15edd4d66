"""Measured operating points, grouped by evaluation protocol: only points of one group can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from distcond.results.cost import InferenceCost, PointKey
from distcond.results.labels import attack_label, blend_label, is_pair, noise_label, threat_label
from distcond.results.lines import Line, SweptSetting, line_names, lines_from_rows
from distcond.results.row import Attack, Row
from distcond.results.series import Score, transfer_lam


class MeasuredPoint(NamedTuple):
    """Where one network can stand. `flops` of one image, multiplications with zero weights left out; None = unknown."""

    at: PointKey
    name: str
    sa: Score
    ra: Score
    density: float
    flops: float | None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = str(self.at.place) + (f", width {self.at.width:g}" if self.at.width != 1 else "")
        return f"{self.name}, {place}" if self.name else place


class EvalProtocol(NamedTuple):
    """All that has to agree before two accuracies compare. `examples` is the size of the image set, `images` its
    name in rows.

    `noise` "none" stands only where no network with weight noise was measured the same way: a network without any plays
    in every noise mode alike.
    """

    dataset: str
    split: str
    attack: Attack
    threat: str
    source: float
    noise: str
    eot_draws: int
    examples: int
    images: str = ""

    @property
    def label(self) -> str:
        """Attack, threat and noise in words."""
        noise = "" if self.noise == "none" else noise_label(self.noise, 1, self.eot_draws)
        return ", ".join(filter(None, (attack_label(self.attack), threat_label(self.threat, self.source), noise)))


class ComparisonGroup(NamedTuple):
    """Lines measured on the same images under the same attack, threat and noise, and the points on each of them."""

    protocol: EvalProtocol
    attack: str
    lines: list[Line]
    names: list[str]
    on_line: list[list[MeasuredPoint]]

    @property
    def curves(self) -> dict[str, list[MeasuredPoint]]:
        """The points of each run, blend or sweep by its name, of all widths together."""
        found: dict[str, list[MeasuredPoint]] = {}
        for line, name, points in zip(self.lines, self.names, self.on_line, strict=True):
            plain = ", ".join(part for part in name.split(", ") if part != f"width {line.width:g}")
            found.setdefault(plain or blend_label(*_dial(line)) or "lam", []).extend(points)
        return found

    @property
    def points(self) -> list[MeasuredPoint]:
        """All of them."""
        return [point for points in self.on_line for point in points]


def comparison_groups(
    rows: Iterable[Row],
    costs: Mapping[PointKey, InferenceCost] | None = None,
    swept: Mapping[str, SweptSetting] | None = None,
) -> list[ComparisonGroup]:
    """The rows' operating points, apart by data set, split, attack, threat, noise and images: across these nothing
    compares.

    Points where only one of SA and RA was measured are left out, and with them fields that have no other. Runs of one
    point each that a setting was `swept` over (by run_id) are one line.
    """
    groups: dict[EvalProtocol, list[Line]] = {}
    for whole in lines_from_rows(rows, swept):
        for line in _by_images(whole) if whole.series.attack else []:
            groups.setdefault(_protocol_of(line), []).append(line)
    groups = _with_noiseless(groups)
    return [
        _group(protocol, protocol.label + _images_suffix(protocol, groups), lines, costs or {})
        for protocol, lines in groups.items()
    ]


def _images_suffix(protocol: EvalProtocol, protocols: Iterable[EvalProtocol]) -> str:
    """What tells the game's images from those of others with its label: their number, else their name."""
    others = [other for other in protocols if other.label == protocol.label and other != protocol]
    if not others:
        return ""
    alike = any(other.examples == protocol.examples for other in others) and protocol.images
    return f", n = {protocol.examples}" + (f" ({protocol.images[:6]})" if alike else "")


def _by_images(line: Line) -> list[Line]:
    """The line, or its parts where some of its points were measured on more images than others."""
    sizes = sorted({ra.examples_per_draw for _, _, ra in line.pairs()})
    if len(sizes) < 2:
        return [line] if sizes else []
    return [
        line._replace(points=[p for p in line.points if p.sa and p.ra and p.ra.examples_per_draw == size])
        for size in sizes
    ]


def _protocol_of(line: Line) -> EvalProtocol:
    origin, attack = line.series.origin, line.series.attack
    assert attack is not None
    how = origin.threat, transfer_lam(origin), origin.noise_mode, origin.eot_draws
    return EvalProtocol(origin.dataset, origin.split, attack, *how, line.pairs()[0][2].examples_per_draw, origin.images)


def _with_noiseless(groups: dict[EvalProtocol, list[Line]]) -> dict[EvalProtocol, list[Line]]:
    """Networks without weight noise beside those with it: for them every noise mode is the same."""
    found = {protocol: lines for protocol, lines in groups.items() if protocol.noise != "none"}
    for protocol, lines in groups.items():
        if protocol.noise == "none":
            hosts = [other for other in found if other._replace(noise="none", eot_draws=protocol.eot_draws) == protocol]
            for host in hosts or [protocol]:
                found[host] = found.get(host, []) + lines
    return found


def _group(
    protocol: EvalProtocol, label: str, lines: list[Line], costs: Mapping[PointKey, InferenceCost]
) -> ComparisonGroup:
    names = line_names(lines)
    on_line = [_points(line, _plain(name, lines), costs) for line, name in zip(lines, names, strict=True)]
    return ComparisonGroup(protocol, label, lines, names, on_line)


def _dial(line: Line) -> tuple[str, float, bool]:
    origin = line.series.origin
    return origin.blend, origin.lam, is_pair(origin.method)


def _plain(name: str, lines: Sequence[Line]) -> str:
    """A line's name without its width and blend, which a point says itself."""
    own = {f"width {line.width:g}" for line in lines}
    for line in lines:
        own.update(blend_label(*_dial(line)).split(", "))
        own.update(f"over {at.setting}" for at in line.swept)
    return ", ".join(part for part in name.split(", ") if part not in own)


def _points(line: Line, name: str, costs: Mapping[PointKey, InferenceCost]) -> list[MeasuredPoint]:
    if line.parts:
        named = [
            (part, ", ".join(filter(None, (name, str(at))))) for part, at in zip(line.parts, line.swept, strict=True)
        ]
        return [point for part, own in named for point in _points(part, own, costs)]
    found, origin = [], line.series.origin
    for point in line.points:
        if point.sa and point.ra:
            at = PointKey(origin.run_id, round(point.lam, 6), round(point.width, 6), point.blend, round(point.t, 6))
            flops = costs[at].flops if at in costs else None
            found.append(MeasuredPoint(at, name, point.sa, point.ra, point.density, flops, point.warnings))
    return found
