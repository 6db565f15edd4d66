"""SA and RA over lam as text: tables for terminals, logs and Markdown, and plain records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from distcond.results.labels import (
    align_decimals,
    attack_label,
    checkpoint_label,
    images_label,
    noise_label,
    threat_label,
    wrap_facts,
)
from distcond.results.lines import series_blend_label
from distcond.results.row import Row
from distcond.results.series import Point, Score, Series, series_of, transfer_lam
from distcond.terminal_text import markdown_text

NO_RESULTS = "no results"
#: Fields of a row that a record copies.
ORIGIN_FIELDS = (
    *("run_id", "method", "model", "dataset", "seed", "split", "checkpoint", "epoch", "noise_mode", "precision"),
    *("threat", "eot_draws", "block_size", "images", "blend"),
    *("attack", "norm", "epsilon", "step_size", "num_steps", "restarts", "random_start"),
)
Record = dict[str, str | int | float | None]


class Table(NamedTuple):
    """Two title lines, a header, lines of cells, and notes below."""

    title: tuple[str, str]
    header: list[str]
    lines: list[list[str]]
    notes: list[str]


def trade_off_table(rows: Iterable[Row]) -> str:
    """SA and RA in % with half of their 95 % interval, one table per method, checkpoint and attack."""
    return "\n\n".join(_to_text(table) for table in _tables(rows, "+-")) or NO_RESULTS


def markdown_table(rows: Iterable[Row]) -> str:
    """The tables of `trade_off_table` in Markdown."""
    return "\n\n".join(_to_markdown(table) for table in _tables(rows, "±")) or NO_RESULTS


def as_records(rows: Iterable[Row]) -> list[Record]:
    """One JSON-able record per point of every series: origin, counts, accuracies in [0, 1] and interval bounds.

    Values that were not measured are None.
    """
    return [_record(series, point) for series in series_of(rows) for point in series.points]


def _tables(rows: Iterable[Row], plus_minus: str) -> list[Table]:
    groups: dict[tuple[object, ...], list[Series]] = {}
    for series in series_of(rows):
        o = series.origin
        network = (o.method, o.model, o.dataset, o.split, o.checkpoint, series_blend_label(series))
        noise = (o.precision, o.noise_mode, o.eot_draws, o.block_size, o.images)
        groups.setdefault((*network, *noise, o.threat, transfer_lam(o), series.attack), []).append(series)
    same_title: dict[tuple[str, str], list[Row]] = {}
    for group in groups.values():
        same_title.setdefault(_title(group), []).append(group[0].origin)
    return [
        Table(_title(group, _distinctions(same_title[_title(group)])), *_cells(group, plus_minus), _notes(group))
        for group in groups.values()
    ]


def _distinctions(origins: list[Row]) -> set[str]:
    """The facts to add to titles that would otherwise be equal: "blocks", "images"."""
    facts: dict[str, set[object]] = {
        "blocks": {row.block_size for row in origins},
        "images": {row.images for row in origins},
    }
    return {name for name, values in facts.items() if len(values) > 1}


def _title(group: list[Series], distinctions: Collection[str] = ()) -> tuple[str, str]:
    origin, attack = group[0].origin, group[0].attack
    epochs = {series.origin.epoch for series in group}
    checkpoint = checkpoint_label(origin)
    checkpoint += f", epoch {origin.epoch}" if len(epochs) == 1 and origin.checkpoint != "each" else ""
    protocol = (
        attack_label(attack) if attack else f"no attack {origin.precision}",
        series_blend_label(group[0]),
        threat_label(origin.threat, origin.attack_lam),
        noise_label(origin.noise_mode, max(series.draws for series in group), origin.eot_draws),
        f"blocks of {origin.block_size}" if "blocks" in distinctions else "",
        images_label(origin) if "images" in distinctions else "",
    )
    network = (origin.method, origin.model, origin.dataset, origin.split, checkpoint)
    return " | ".join(network), " | ".join(filter(None, protocol))


def _cells(group: list[Series], plus_minus: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines. Width, density and run are shown only if they vary."""
    points = [point for series in group for point in series.points]
    columns: dict[str, list[str]] = {}
    if len(group) > 1:
        columns["run"] = [series.origin.run_id for series in group for _ in series.points]
    for name, values in (("width", [p.at.point.width for p in points]), ("density", [p.density for p in points])):
        if len(set(values)) > 1:
            columns[name] = align_decimals(values)
    columns["t" if group[0].origin.blend else "lam"] = align_decimals([point.at.point.position for point in points])
    columns["SA %"] = _percent([point.sa for point in points], plus_minus)
    if group[0].attack:
        columns["RA %"] = _percent([point.ra for point in points], plus_minus)
    columns |= _example_counts(points)
    return list(columns), [list(line) for line in zip(*columns.values(), strict=True)]


def _percent(scores: Sequence[Score | None], plus_minus: str) -> list[str]:
    return [f"{100 * s.accuracy:.2f} {plus_minus} {100 * s.interval.half_width:.2f}" if s else "-" for s in scores]


def _example_counts(points: list[Point]) -> dict[str, list[str]]:
    """The numbers of examples: one column if SA and RA agree, otherwise one for each."""
    sa = [str(point.sa.examples_per_draw) if point.sa else "-" for point in points]
    ra = [str(point.ra.examples_per_draw) if point.ra else "-" for point in points]
    pairs = list(zip(sa, ra, strict=True))
    if any(a != b and "-" not in (a, b) for a, b in pairs):
        return {"n (SA)": sa, "n (RA)": ra}
    return {"n": [b if a == "-" else a for a, b in pairs]}


def _notes(group: list[Series]) -> list[str]:
    """One line per set of warnings, with all of its points."""
    points: dict[str, list[str]] = {}
    for series in group:
        of_run = f" of {series.origin.run_id}" if len(group) > 1 else ""
        for point in series.points:
            if point.warnings:
                points.setdefault(", ".join(point.warnings), []).append(f"{point.at.point}{of_run}")
    return [f"warning: gradient masking at {', '.join(at)}: {names}" for names, at in points.items()]


def _to_text(table: Table) -> str:
    sizes = [max(map(len, column)) for column in zip(table.header, *table.lines, strict=True)]
    rule = ["-" * size for size in sizes]
    lines = (_align(cells, sizes, table.header) for cells in (table.header, rule, *table.lines))
    return "\n".join([*map(wrap_facts, table.title), "", *lines, *table.notes])


def _align(cells: list[str], sizes: list[int], header: list[str]) -> str:
    """Cells padded to `sizes`: names flush left, numbers flush right."""
    padded = zip(cells, sizes, header, strict=True)
    return "  ".join(cell.ljust(size) if name == "run" else cell.rjust(size) for cell, size, name in padded)


def _to_markdown(table: Table) -> str:
    alignment = [":---" if name == "run" else "---:" for name in table.header]
    cells = [[markdown_text(cell) for cell in line] for line in table.lines]
    lines = ["| " + " | ".join(line) + " |" for line in (table.header, alignment, *cells)]
    # Some renderers take bars in a title for columns.
    title, attack = (markdown_text(line.replace(" | ", ", ")) for line in table.title)
    notes = ["", *(f"{markdown_text(note)}  " for note in table.notes)] if table.notes else []
    return "\n".join([f"**{title}**  ", attack, "", *lines, *notes])


def _record(series: Series, point: Point) -> Record:
    record: Record = {name: getattr(series.origin, name) for name in ORIGIN_FIELDS}
    at = point.at.point
    record |= {"attack_lam": at.lam if series.origin.threat == "adaptive" else series.origin.attack_lam}
    record |= {"lam": at.lam, "blend_t": at.t, "width": at.width, "density": point.density}
    record |= {"warnings": ",".join(point.warnings)}
    return record | _score_record("sa", point.sa) | _score_record("ra", point.ra)


def _score_record(name: str, score: Score | None) -> Record:
    suffixes = ("", "_low", "_high", "_num_correct", "_num_examples", "_draws")
    values = (score.accuracy, *score.interval, *score) if score else (None,) * len(suffixes)
    return {name + suffix: value for suffix, value in zip(suffixes, values, strict=True)}
