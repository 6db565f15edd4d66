"""The lines of a figure: one per series and width, or one per sweep of runs, and a name for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from distcond.results.labels import (
    attack_label,
    blend_label,
    checkpoint_label,
    images_label,
    is_pair,
    noise_label,
    threat_label,
)
from distcond.results.row import Row
from distcond.results.series import Point, Score, Series, series_of, transfer_lam
from distcond.results.swept import SweptSetting

NO_NOISE = noise_label("none", 1)


class Line(NamedTuple):
    """The points of one series at one width, sorted by position.

    Or one point of each run of a sweep, sorted by the swept setting. Then `parts` are the lines of the runs, `swept`
    has the setting of each, and `series` is the first run's with all points.
    """

    series: Series
    width: float
    points: list[Point]
    parts: tuple[Line, ...] = ()
    swept: tuple[SweptSetting, ...] = ()

    @property
    def by_run(self) -> tuple[Line, ...]:
        """One line per run."""
        return self.parts or (self,)

    @property
    def blend_label(self) -> str:
        """What the line blends; "" if it varies lam."""
        return series_blend_label(self.series)

    def pairs(self) -> list[tuple[float, Score, Score]]:
        """(position, SA, RA) of every point at which both were measured."""
        return [(point.at.point.position, point.sa, point.ra) for point in self.points if point.sa and point.ra]


def lines_from_rows(rows: Iterable[Row], swept: Mapping[str, SweptSetting] | None = None) -> list[Line]:
    """One line per series and width.

    Args:
        rows: Rows of the test split hide those of val, saved checkpoints hide the live network, and the best checkpoint
            hides the last one if they are the same.
        swept: By run_id. Runs of one sweep that have a single point each are joined into one line.
    """
    everything = series_of(rows)
    split = "test" if any(series.origin.split == "test" for series in everything) else "val"
    kept = [series for series in everything if series.origin.split == split]
    saved = [series for series in kept if series.origin.checkpoint != "live"]
    best = {_network(series) for series in saved if series.origin.checkpoint == "best"}
    shown = [series for series in saved if series.origin.checkpoint == "best" or _network(series) not in best]
    lines = [line for series in shown or kept for line in _split_by_width(series)]
    return _join_swept_runs(lines, swept) if swept else lines


def dial_label(lines: Sequence[Line]) -> str:
    """The label of the axis along the lines: λ, the share t of blends, or both."""
    return " or ".join(sorted({"t" if line.series.origin.blend else "λ" for line in lines}, reverse=True))


def line_names(lines: Sequence[Line]) -> list[str]:
    """A name for each line: the facts in which the lines differ, and the run_id only if these are not unique."""
    varying = [column for column in zip(*map(_line_facts, lines), strict=True) if len(set(column)) > 1]
    # "no noise" is left out unless it is the only difference between two lines.
    informative = [column for column in varying if len(set(column) - {NO_NOISE}) > 1]
    candidates, origins = [informative, varying], [line.series.origin for line in lines]
    for more in ([f"blocks of {o.block_size}" for o in origins], [images_label(o) for o in origins]):
        candidates += [[*columns, tuple(more)] for columns in candidates] if len(set(more)) > 1 else []
    for columns in candidates:
        names = _join_facts(columns, len(lines))
        if len(set(names)) == len(names):
            return names
    return [f"{name}, {line.series.origin.run_id}".lstrip(", ") for name, line in zip(names, lines, strict=True)]


def shared_title(lines: Sequence[Line]) -> tuple[str, str]:
    """What all lines have in common: a heading (method, model, dataset) and a line with the evaluation protocol."""
    origins = [part.series.origin for line in lines for part in line.by_run]
    scores = [score for line in lines for point in line.points for score in (point.sa, point.ra) if score]
    heading = [[o.method for o in origins], [o.model for o in origins], [o.dataset for o in origins]]
    protocol = [[_attack(line) for line in lines], [_noise(line) for line in lines]]
    protocol += [[line.blend_label for line in lines]]
    protocol += [[f"{o.split} split" for o in origins], [_checkpoint(line) for line in lines]]
    protocol += [[f"epoch {o.epoch}" for o in origins], [f"n = {score.examples_per_draw}" for score in scores]]
    return _shared_facts(heading), _shared_facts(protocol)


def series_blend_label(series: Series) -> str:
    """What a series blends; "" if it varies lam."""
    return blend_label(series.origin.blend, series.origin.lam, is_pair(series.origin.method))


def _split_by_width(series: Series) -> list[Line]:
    widths = sorted({point.at.point.width for point in series.points}, reverse=True)
    return [Line(series, width, [p for p in series.points if p.at.point.width == width]) for width in widths]


def _network(series: Series) -> tuple[object, ...]:
    """The evaluated network and the protocol, without the name of the checkpoint."""
    o = series.origin
    protocol = (o.precision, o.noise_mode, o.eot_draws, o.block_size, o.threat, transfer_lam(o), o.images)
    return o.run_id, o.epoch, series.attack, *protocol, series_blend_label(series)


def _join_swept_runs(lines: Sequence[Line], swept: Mapping[str, SweptSetting]) -> list[Line]:
    """The lines, with those of one sweep joined into one at the index of the first."""
    groups: dict[tuple[object, ...], list[tuple[Line, SweptSetting | None]]] = {}
    for number, line in enumerate(lines):
        origin, ra = line.series.origin, line.points[0].ra
        setting = swept.get(origin.run_id) if len(line.points) == 1 and line.pairs() else None
        protocol = (line.width, origin.checkpoint, ra and ra.examples_per_draw, *_network(line.series)[2:])
        group = (setting.group, *protocol) if setting else (number,)
        groups.setdefault(group, []).append((line, setting))
    return [_join_lines(group) for group in groups.values()]


def _join_lines(group: Sequence[tuple[Line, SweptSetting | None]]) -> Line:
    swept = sorted(((setting, line) for line, setting in group if setting), key=lambda pair: pair[0].value)
    if len(swept) < 2:
        return group[0][0]
    settings, parts = tuple(setting for setting, _ in swept), tuple(line for _, line in swept)
    points = [point for line in parts for point in line.points]
    return Line(replace(parts[0].series, points=tuple(points)), parts[0].width, points, parts, settings)


def _line_facts(line: Line) -> tuple[str, ...]:
    o = line.series.origin
    network = o.method, o.model, o.dataset, f"width {line.width:g}", f"seed {o.seed}", _checkpoint(line)
    return *network, _attack(line), _noise(line), line.blend_label, _sweep(line)


def _join_facts(columns: Sequence[Sequence[str]], count: int) -> list[str]:
    return [", ".join(fact for fact in name if fact) for name in zip(*columns, strict=True)] or [""] * count


def _shared_facts(facts: Iterable[Sequence[str]]) -> str:
    return " · ".join(fact[0] for fact in facts if len(set(fact)) == 1 and fact[0])


def _sweep(line: Line) -> str:
    return f"over {line.swept[0].setting}" if line.swept else ""


def _checkpoint(line: Line) -> str:
    return checkpoint_label(line.series.origin)


def _attack(line: Line) -> str:
    return attack_label(line.series.attack) if line.series.attack else "SA only"


def _noise(line: Line) -> str:
    origin = line.series.origin
    noise = noise_label(origin.noise_mode, line.series.draws, origin.eot_draws)
    return ", ".join(filter(None, (threat_label(origin.threat, origin.attack_lam), noise)))
