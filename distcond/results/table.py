"""The trade-off as text: SA and RA over lam, for terminals, logs and Markdown; and as plain records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from distcond.results.label import aligned, attack_label, blend_label, images_label, noise_label, threat_label
from distcond.results.pairs import is_pair
from distcond.results.row import Row
from distcond.results.series import Point, Score, Series, series_of, source

EMPTY = "no results"
ORIGIN = (
    *("run_id", "method", "model", "dataset", "seed", "split", "checkpoint", "epoch", "noise_mode", "precision"),
    *("threat", "eot_draws", "block_size", "images", "blend"),
    *("attack", "norm", "epsilon", "step_size", "num_steps", "restarts", "random_start"),
)
Record = dict[str, str | int | float | None]


class Block(NamedTuple):
    """One table: two title lines, a header and its lines of cells; below it, warnings."""

    title: tuple[str, str]
    header: list[str]
    lines: list[list[str]]
    notes: list[str]


def trade_off_table(rows: Iterable[Row]) -> str:
    """SA and RA in % with the half-width of their 95 % interval, one table per method, checkpoint and attack."""
    return "\n\n".join(_text(block) for block in _blocks(rows, "+-")) or EMPTY


def markdown_table(rows: Iterable[Row]) -> str:
    """The same tables in Markdown."""
    return "\n\n".join(_markdown(block) for block in _blocks(rows, "±")) or EMPTY


def as_records(rows: Iterable[Row]) -> list[Record]:
    """One JSON-able record per point of every series: its origin, counts, accuracies in [0, 1] and interval bounds.

    What was not measured is None.
    """
    return [_record(series, point) for series in series_of(rows) for point in series.points]


def _blocks(rows: Iterable[Row], plus_minus: str) -> list[Block]:
    groups: dict[tuple[object, ...], list[Series]] = {}
    for series in series_of(rows):
        o = series.origin
        how = (o.precision, o.noise_mode, o.eot_draws, o.block_size, o.images, o.threat, source(o), series.attack)
        group = (o.method, o.model, o.dataset, o.split, o.checkpoint, *how, _blend(o))
        groups.setdefault(group, []).append(series)
    titles: dict[tuple[str, str], list[Row]] = {}
    for alike in groups.values():
        titles.setdefault(_title(alike), []).append(alike[0].origin)
    return [
        Block(_title(group, _telling(titles[_title(group)])), *_body(group, plus_minus), _notes(group))
        for group in groups.values()
    ]


def _telling(twins: list[Row]) -> set[str]:
    """What tells apart tables that differ in nothing else: "blocks", "images"."""
    differ: dict[str, set[object]] = {
        "blocks": {row.block_size for row in twins},
        "images": {row.images for row in twins},
    }
    return {name for name, values in differ.items() if len(values) > 1}


def _title(group: list[Series], telling: Collection[str] = ()) -> tuple[str, str]:
    origin, attack = group[0].origin, group[0].attack
    epochs = {series.origin.epoch for series in group}
    checkpoint = f"{origin.checkpoint} checkpoint" + (f", epoch {origin.epoch}" if len(epochs) == 1 else "")
    threat = attack_label(attack) if attack else f"no attack {origin.precision}"
    noise = noise_label(origin.noise_mode, max(series.draws for series in group), origin.eot_draws)
    blocks = f"blocks of {origin.block_size}" if "blocks" in telling else ""
    images = images_label(origin) if "images" in telling else ""
    known = threat_label(origin.threat, origin.attack_lam)
    how = " | ".join(filter(None, (threat, _blend(origin), known, noise, blocks, images)))
    return " | ".join((origin.method, origin.model, origin.dataset, origin.split, checkpoint)), how


def _blend(origin: Row) -> str:
    return blend_label(origin.blend, origin.lam, is_pair(origin.method))


def _body(group: list[Series], plus_minus: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines. Width, density and run are shown only where they differ."""
    points = [point for series in group for point in series.points]
    columns: dict[str, list[str]] = {}
    if len(group) > 1:
        columns["run"] = [series.origin.run_id for series in group for _ in series.points]
    for name, values in (("width", [p.width for p in points]), ("density", [p.density for p in points])):
        if len(set(values)) > 1:
            columns[name] = aligned(values)
    columns["t" if group[0].origin.blend else "lam"] = aligned([point.position for point in points])
    columns["SA %"] = _percent([point.sa for point in points], plus_minus)
    if group[0].attack:
        columns["RA %"] = _percent([point.ra for point in points], plus_minus)
    columns |= _counts(points)
    return list(columns), [list(line) for line in zip(*columns.values(), strict=True)]


def _notes(group: list[Series]) -> list[str]:
    """One line for all points with the same warnings."""
    places: dict[str, list[str]] = {}
    for series in group:
        of_run = f" of {series.origin.run_id}" if len(group) > 1 else ""
        for point in series.points:
            width = f" width {point.width:g}" if point.width != 1 else ""
            if point.warnings:
                places.setdefault(", ".join(point.warnings), []).append(f"{point.place}{width}{of_run}")
    return [f"warning: gradient masking at {', '.join(at)}: {names}" for names, at in places.items()]


def _percent(scores: Sequence[Score | None], plus_minus: str) -> list[str]:
    return [f"{100 * s.accuracy:.2f} {plus_minus} {100 * s.interval.half_width:.2f}" if s else "-" for s in scores]


def _counts(points: list[Point]) -> dict[str, list[str]]:
    """How many examples stand behind each line: one column where SA and RA agree, else one for each."""
    sa = [str(point.sa.examples_per_draw) if point.sa else "-" for point in points]
    ra = [str(point.ra.examples_per_draw) if point.ra else "-" for point in points]
    pairs = list(zip(sa, ra, strict=True))
    if any(a != b and "-" not in (a, b) for a, b in pairs):
        return {"n (SA)": sa, "n (RA)": ra}
    return {"n": [b if a == "-" else a for a, b in pairs]}


def _text(block: Block) -> str:
    sizes = [max(map(len, column)) for column in zip(block.header, *block.lines, strict=True)]
    rule = ["-" * size for size in sizes]
    lines = (_line(cells, sizes, block.header) for cells in (block.header, rule, *block.lines))
    return "\n".join([*block.title, "", *lines, *block.notes])


def _line(cells: list[str], sizes: list[int], header: list[str]) -> str:
    """Cells padded to `sizes`: names flush left, numbers flush right."""
    padded = zip(cells, sizes, header, strict=True)
    return "  ".join(cell.ljust(size) if name == "run" else cell.rjust(size) for cell, size, name in padded)


def _markdown(block: Block) -> str:
    ends = [":---" if name == "run" else "---:" for name in block.header]
    lines = ["| " + " | ".join(cells) + " |" for cells in (block.header, ends, *block.lines)]
    # Bars inside a title would be taken for columns by some renderers.
    title, attack = (line.replace(" | ", ", ") for line in block.title)
    notes = ["", *(f"{note}  " for note in block.notes)] if block.notes else []
    return "\n".join([f"**{title}**  ", attack, "", *lines, *notes])


def _record(series: Series, point: Point) -> Record:
    record: Record = {name: getattr(series.origin, name) for name in ORIGIN}
    record |= {"attack_lam": point.lam if series.origin.threat == "adaptive" else series.origin.attack_lam}
    record |= {"lam": point.lam, "blend_t": point.t, "width": point.width, "density": point.density}
    record |= {"warnings": ",".join(point.warnings)}
    return record | _score_record("sa", point.sa) | _score_record("ra", point.ra)


def _score_record(name: str, score: Score | None) -> Record:
    ends = ("", "_low", "_high", "_num_correct", "_num_examples", "_draws")
    values = (score.accuracy, *score.interval, *score) if score else (None,) * len(ends)
    return {name + end: value for end, value in zip(ends, values, strict=True)}
