"""Threat models side by side: what is left of RA when the attacker knows less, or when the noise is drawn anew."""

from __future__ import annotations

from collections.abc import Iterable

from distcond.results.label import aligned, attack_label, blend_label
from distcond.results.pairs import is_pair
from distcond.results.row import Row, accuracy, attack_of, highest_attempt, key, position

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
    columns = [["t" if rows[0].blend else "lam", "", *aligned(lams)]]
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
