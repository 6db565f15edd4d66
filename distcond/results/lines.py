"""Which lines a figure of several runs, widths and attacks holds, and what each is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from distcond.results.label import attack_label, blend_label, images_label, noise_label, threat_label
from distcond.results.pairs import is_pair
from distcond.results.row import Row
from distcond.results.series import Point, Score, Series, series_of, source
from distcond.results.swept import Swept

NO_NOISE = noise_label("none", 1)


class Line(NamedTuple):
    """Points of one series at one width, sorted along the dial.

    Or one point each of several runs, sorted by the setting that was swept over them: `parts` are their own lines,
    `swept` says where each stands, and `series` is the first one's with all points.
    """

    series: Series
    width: float
    points: list[Point]
    parts: tuple[Line, ...] = ()
    swept: tuple[Swept, ...] = ()

    @property
    def by_run(self) -> tuple[Line, ...]:
        """The lines of the single runs."""
        return self.parts or (self,)

    def pairs(self) -> list[tuple[float, Score, Score]]:
        """(lam or share of a blend, SA, RA) where both were measured."""
        return [(point.position, point.sa, point.ra) for point in self.points if point.sa and point.ra]


def lines_of(rows: Iterable[Row], swept: Mapping[str, Swept] | None = None) -> list[Line]:
    """One line per series and width; one for all runs of one point each that a setting was `swept` over, by run_id.

    Test hides val, a saved checkpoint the live network, and the best checkpoint the last one where they are the same.
    """
    everything = series_of(rows)
    split = "test" if any(series.origin.split == "test" for series in everything) else "val"
    kept = [series for series in everything if series.origin.split == split]
    saved = [series for series in kept if series.origin.checkpoint != "live"]
    best = {_network(series) for series in saved if series.origin.checkpoint == "best"}
    shown = [series for series in saved if series.origin.checkpoint == "best" or _network(series) not in best]
    lines = [line for series in shown or kept for line in _by_width(series)]
    return _joined_runs(lines, swept) if swept else lines


def _joined_runs(lines: Sequence[Line], swept: Mapping[str, Swept]) -> list[Line]:
    """The lines, those of one sweep as one, in the place of its first."""
    groups: dict[tuple[object, ...], list[tuple[Line, Swept | None]]] = {}
    for number, line in enumerate(lines):
        at = swept.get(line.series.origin.run_id) if len(line.points) == 1 and line.pairs() else None
        o, n = line.series.origin, line.points[0].ra
        same = at and (at.group, line.width, o.checkpoint, n and n.examples_per_draw, *_network(line.series)[2:])
        groups.setdefault(same or (number,), []).append((line, at))
    return [_joined_line(group) for group in groups.values()]


def _joined_line(group: Sequence[tuple[Line, Swept | None]]) -> Line:
    placed = sorted(((at, line) for line, at in group if at), key=lambda pair: pair[0].value)
    if len(placed) < 2:
        return group[0][0]
    parts, places = tuple(line for _, line in placed), tuple(at for at, _ in placed)
    points = [point for line in parts for point in line.points]
    return Line(replace(parts[0].series, points=tuple(points)), parts[0].width, points, parts, places)


def dial_of(lines: Sequence[Line]) -> str:
    """What the points of the lines are at: λ, the share t of blends, or both."""
    return " or ".join(sorted({"t" if line.series.origin.blend else "λ" for line in lines}, reverse=True))


def names_of(lines: Sequence[Line]) -> list[str]:
    """A name for each line: what differs between the lines, and a run_id only where nothing else tells them apart."""
    varying = [column for column in zip(*map(_facts, lines), strict=True) if len(set(column)) > 1]
    # That a method has no weight noise goes without saying, unless only this tells two lines apart.
    telling = [column for column in varying if len(set(column) - {NO_NOISE}) > 1]
    ways, origins = [telling, varying], [line.series.origin for line in lines]
    for more in ([f"blocks of {o.block_size}" for o in origins], [images_label(o) for o in origins]):
        ways += [[*columns, tuple(more)] for columns in ways] if len(set(more)) > 1 else []
    for columns in ways:
        names = _joined(columns, len(lines))
        if len(set(names)) == len(names):
            return names
    return [f"{name}, {line.series.origin.run_id}".lstrip(", ") for name, line in zip(names, lines, strict=True)]


def shared_title(lines: Sequence[Line]) -> tuple[str, str]:
    """What all lines have in common: a heading (method, model, dataset) and a line on how it was measured."""
    origins = [part.series.origin for line in lines for part in line.by_run]
    scores = [score for line in lines for point in line.points for score in (point.sa, point.ra) if score]
    what = [[o.method for o in origins], [o.model for o in origins], [o.dataset for o in origins]]
    how = [[_attack(line) for line in lines], [_noise(line) for line in lines], [_blend(line.series) for line in lines]]
    how += [[f"{o.split} split" for o in origins], [_checkpoint(line) for line in lines]]
    how += [[f"epoch {o.epoch}" for o in origins], [f"n = {score.examples_per_draw}" for score in scores]]
    return _shared(what), _shared(how)


def _joined(columns: Sequence[Sequence[str]], count: int) -> list[str]:
    return [", ".join(fact for fact in name if fact) for name in zip(*columns, strict=True)] or [""] * count


def _network(series: Series) -> tuple[object, ...]:
    o = series.origin
    how = (o.precision, o.noise_mode, o.eot_draws, o.block_size, o.threat, source(o), o.images, _blend(series))
    return o.run_id, o.epoch, series.attack, *how


def _by_width(series: Series) -> list[Line]:
    widths = sorted({point.width for point in series.points}, reverse=True)
    return [Line(series, width, [p for p in series.points if p.width == width]) for width in widths]


def _facts(line: Line) -> tuple[str, ...]:
    o = line.series.origin
    place = o.method, o.model, o.dataset, f"width {line.width:g}", f"seed {o.seed}"
    return *place, _checkpoint(line), _attack(line), _noise(line), _blend(line.series), _sweep(line)


def _sweep(line: Line) -> str:
    return f"over {line.swept[0].setting}" if line.swept else ""


def _shared(facts: Iterable[Sequence[str]]) -> str:
    """The facts on which all agree."""
    return " · ".join(fact[0] for fact in facts if len(set(fact)) == 1 and fact[0])


def _checkpoint(line: Line) -> str:
    return f"{line.series.origin.checkpoint} checkpoint"


def _attack(line: Line) -> str:
    return attack_label(line.series.attack) if line.series.attack else "SA only"


def _blend(series: Series) -> str:
    return blend_label(series.origin.blend, series.origin.lam, is_pair(series.origin.method))


def _noise(line: Line) -> str:
    origin = line.series.origin
    noise = noise_label(origin.noise_mode, line.series.draws, origin.eot_draws)
    return ", ".join(filter(None, (threat_label(origin.threat, origin.attack_lam), noise)))
