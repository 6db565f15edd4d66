"""SA and RA over lam as text: tables for terminals, logs and Markdown, threat models side by side, plain records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from distcond.results.labels import (
    align_decimals,
    attack_label,
    blend_label,
    images_label,
    is_pair,
    noise_label,
    threat_label,
)
from distcond.results.row import Row, accuracy, attack_of, highest_attempt, key, position
from distcond.results.series import Point, Score, Series, series_of, transfer_lam

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
        how = (o.precision, o.noise_mode, o.eot_draws, o.block_size, o.images, o.threat, transfer_lam(o), series.attack)
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
            columns[name] = align_decimals(values)
    columns["t" if group[0].origin.blend else "lam"] = align_decimals([point.position for point in points])
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


#: (noise mode, draws averaged over, threat, lam of the attack); the order of the columns.
_How = tuple[int, int, int, float]
_NOISE, _THREATS = ("none", "fixed", "fresh", "eot"), ("adaptive", "transfer", "worst")


def threat_table(rows: Iterable[Row]) -> str:
    """RA in %, a line per lam and a column per threat model, one table per run, checkpoint, width and attack.

    "" where no attack was counted under more than one threat model. A dash is what was not counted.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in highest_attempt(rows):
        if row.attack != "none":
            network = (row.run_id, row.epoch, row.split, row.checkpoint, row.blend, row.lam if row.blend else 0.0)
            group = (*network, key(row).width, attack_of(row), row.block_size, row.images)
            groups.setdefault(group, []).append(row)
    return "\n\n".join(_table(group) for group in groups.values() if len({_how(row) for row in group}) > 1)


def _how(row: Row) -> _How:
    source = key(row).attack_lam if row.threat == "transfer" else -1.0
    return _NOISE.index(row.noise_mode), row.eot_draws, _THREATS.index(row.threat), source


def _table(rows: list[Row]) -> str:
    hows, lams = sorted({_how(row) for row in rows}), sorted({position(row) for row in rows})
    cells = {(position(row), _how(row)): f"{100 * accuracy(row):.2f}" for row in rows}
    columns = [["t" if rows[0].blend else "lam", "", *align_decimals(lams)]]
    columns += [[*_heading(how), *(cells.get((lam, how), "-") for lam in lams)] for how in hows]
    sizes = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.rjust(size) for cell, size in zip(line, sizes, strict=True))
        for line in zip(*columns, strict=True)
    ]
    lines.insert(2, "  ".join("-" * size for size in sizes))
    width = f" | width {rows[0].width:g}" if rows[0].width != 1 else ""
    count = f" | n = {rows[0].num_examples}"
    label = blend_label(rows[0].blend, rows[0].lam, is_pair(rows[0].method))
    blend = f" | {label}" if label else ""
    return "\n".join([f"RA % under {attack_label(attack_of(rows[0]))}{blend}{width}{count}", "", *lines])


def _heading(how: _How) -> tuple[str, str]:
    noise, draws, threat, source = how
    mode = _NOISE[noise]
    over = f"{mode} x{draws}" if mode == "eot" else mode
    name = {"adaptive": "knows lam", "transfer": f"from {source:g}", "worst": "worst"}[_THREATS[threat]]
    return name, "" if mode == "none" else f"noise {over}"
