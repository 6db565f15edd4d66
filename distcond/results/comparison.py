"""Measured operating points, grouped by evaluation protocol: only points of one group can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from distcond.results.cost import InferenceCost
from distcond.results.labels import attack_label, noise_label, threat_label
from distcond.results.lines import Line, line_names, lines_from_rows
from distcond.results.row import Attack, Row
from distcond.results.series import PointKey, Score, transfer_lam
from distcond.results.swept import SweptSetting


class MeasuredPoint(NamedTuple):
    """SA and RA of one network. `flops` of one image, without multiplications by zero weights; None if unknown."""

    at: PointKey
    name: str
    sa: Score
    ra: Score
    density: float
    flops: float | None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}, {self.at.point}" if self.name else str(self.at.point)


class EvalProtocol(NamedTuple):
    """Everything that must agree before two accuracies can be compared.

    `examples` is the size of the image set and `images` its name in rows. `noise` is "none" only if no network with
    weight noise was measured in the same way: a network without noise is the same in every noise mode.
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
        """Attack, threat model and noise as text."""
        noise = "" if self.noise == "none" else noise_label(self.noise, 1, self.eot_draws)
        return ", ".join(filter(None, (attack_label(self.attack), threat_label(self.threat, self.source), noise)))


class ComparisonGroup(NamedTuple):
    """The lines measured under one protocol and the points on each of them.

    `attack` is the label of the protocol, with the image set if several groups would share the label.
    """

    protocol: EvalProtocol
    attack: str
    lines: list[Line]
    names: list[str]
    points_by_line: list[list[MeasuredPoint]]

    @property
    def curves(self) -> dict[str, list[MeasuredPoint]]:
        """The points of all widths of each run, blend or sweep, by its name."""
        curves: dict[str, list[MeasuredPoint]] = {}
        for line, name, points in zip(self.lines, self.names, self.points_by_line, strict=True):
            without_width = ", ".join(part for part in name.split(", ") if part != f"width {line.width:g}")
            curves.setdefault(without_width or line.blend_label or "lam", []).extend(points)
        return curves

    @property
    def points(self) -> list[MeasuredPoint]:
        """The points of all lines."""
        return [point for points in self.points_by_line for point in points]


def comparison_groups(
    rows: Iterable[Row],
    costs: Mapping[PointKey, InferenceCost] | None = None,
    swept: Mapping[str, SweptSetting] | None = None,
) -> list[ComparisonGroup]:
    """Group the operating points of rows by data set, split, attack, threat, noise and images.

    Points without SA or without RA are left out, and groups without points too.

    Args:
        rows: Rows of any number of runs.
        costs: Inference costs, as `costs_below` returns them.
        swept: By run_id; the runs of one sweep with a single point each form one line.
    """
    groups: dict[EvalProtocol, list[Line]] = {}
    for line in lines_from_rows(rows, swept):
        for part in _split_by_examples(line) if line.series.attack else []:
            groups.setdefault(_protocol_of(part), []).append(part)
    groups = _merge_noiseless(groups)
    return [
        _group(protocol, protocol.label + _images_suffix(protocol, groups), lines, costs or {})
        for protocol, lines in groups.items()
    ]


def _split_by_examples(line: Line) -> list[Line]:
    """One line per number of images that its points were measured on."""
    sizes = sorted({ra.examples_per_draw for _, _, ra in line.pairs()})
    if len(sizes) < 2:
        return [line] if sizes else []
    return [
        line._replace(points=[p for p in line.points if p.sa and p.ra and p.ra.examples_per_draw == size])
        for size in sizes
    ]


def _protocol_of(line: Line) -> EvalProtocol:
    o, attack = line.series.origin, line.series.attack
    assert attack is not None
    examples = line.pairs()[0][2].examples_per_draw
    return EvalProtocol(
        o.dataset, o.split, attack, o.threat, transfer_lam(o), o.noise_mode, o.eot_draws, examples, o.images
    )


def _merge_noiseless(groups: dict[EvalProtocol, list[Line]]) -> dict[EvalProtocol, list[Line]]:
    """Add networks without weight noise to the groups of every noise mode: for them all modes are the same."""
    merged = {protocol: lines for protocol, lines in groups.items() if protocol.noise != "none"}
    for protocol, lines in groups.items():
        if protocol.noise == "none":
            noisy = [p for p in merged if p._replace(noise="none", eot_draws=protocol.eot_draws) == protocol]
            for target in noisy or [protocol]:
                merged[target] = merged.get(target, []) + lines
    return merged


def _images_suffix(protocol: EvalProtocol, protocols: Iterable[EvalProtocol]) -> str:
    """The number of images, and their name if that is not enough, where several protocols have one label."""
    others = [other for other in protocols if other.label == protocol.label and other != protocol]
    if not others:
        return ""
    same_size = any(other.examples == protocol.examples for other in others) and protocol.images
    return f", n = {protocol.examples}" + (f" ({protocol.images[:6]})" if same_size else "")


def _group(
    protocol: EvalProtocol, label: str, lines: list[Line], costs: Mapping[PointKey, InferenceCost]
) -> ComparisonGroup:
    names, in_points = line_names(lines), _facts_in_points(lines)
    points_by_line = [
        _points(line, _short_name(name, in_points), costs) for line, name in zip(lines, names, strict=True)
    ]
    return ComparisonGroup(protocol, label, lines, names, points_by_line)


def _facts_in_points(lines: Sequence[Line]) -> set[str]:
    """Width, blend and swept setting: what the text of a point has itself."""
    in_points = {f"width {line.width:g}" for line in lines}
    for line in lines:
        in_points.update(line.blend_label.split(", "))
        in_points.update(f"over {setting.setting}" for setting in line.swept)
    return in_points


def _short_name(name: str, in_points: set[str]) -> str:
    """A line's name without the facts that the text of its points has."""
    return ", ".join(part for part in name.split(", ") if part not in in_points)


def _points(line: Line, name: str, costs: Mapping[PointKey, InferenceCost]) -> list[MeasuredPoint]:
    if line.parts:
        names = [", ".join(filter(None, (name, str(setting)))) for setting in line.swept]
        return [point for part, own in zip(line.parts, names, strict=True) for point in _points(part, own, costs)]
    return [
        MeasuredPoint(p.at, name, p.sa, p.ra, p.density, costs[p.at].flops if p.at in costs else None, p.warnings)
        for p in line.points
        if p.sa and p.ra
    ]
