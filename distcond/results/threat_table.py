"""RA under several threat models side by side, as text."""

from __future__ import annotations

from collections.abc import Iterable

from distcond.results.labels import align_columns, align_decimals, attack_label, blend_label, is_pair, wrap_facts
from distcond.results.row import NOISE_MODES, THREATS, Row, accuracy, attack_of, highest_attempt, key, position
from distcond.results.series import transfer_lam

#: Index of the noise mode, draws averaged over, index of the threat, lam of a transfer attack. Columns in this order.
_ThreatModel = tuple[int, int, int, float]


def threat_table(rows: Iterable[Row]) -> str:
    """RA in %: a line per lam and a column per threat model, one table per run, checkpoint, width and attack.

    "" if no attack was evaluated under more than one threat model. A dash means not evaluated.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in highest_attempt(rows):
        if row.attack != "none":
            network = (row.run_id, row.epoch, row.split, row.checkpoint, row.blend, row.lam if row.blend else 0.0)
            group = (*network, key(row).width, attack_of(row), row.block_size, row.images)
            groups.setdefault(group, []).append(row)
    return "\n\n".join(_table(group) for group in groups.values() if len({_threat_model(row) for row in group}) > 1)


def _threat_model(row: Row) -> _ThreatModel:
    return NOISE_MODES.index(row.noise_mode), row.eot_draws, THREATS.index(row.threat), transfer_lam(row)


def _table(rows: list[Row]) -> str:
    models, positions = sorted({_threat_model(row) for row in rows}), sorted({position(row) for row in rows})
    cells = {(position(row), _threat_model(row)): f"{100 * accuracy(row):.2f}" for row in rows}
    columns = [["t" if rows[0].blend else "lam", "", *align_decimals(positions)]]
    columns += [[*_heading(model), *(cells.get((at, model), "-") for at in positions)] for model in models]
    return "\n".join([wrap_facts(_title(rows[0])), "", *align_columns(columns, header_lines=2)])


def _title(row: Row) -> str:
    width = f"width {row.width:g}" if row.width != 1 else ""
    blend = blend_label(row.blend, row.lam, is_pair(row.method))
    return " | ".join(
        filter(None, (f"RA % under {attack_label(attack_of(row))}", blend, width, f"n = {row.num_examples}"))
    )


def _heading(model: _ThreatModel) -> tuple[str, str]:
    noise, draws, threat, source = model
    mode = NOISE_MODES[noise]
    noise_heading = f"noise {mode} x{draws}" if mode == "eot" else f"noise {mode}"
    name = {"adaptive": "knows lam", "transfer": f"from {source:g}", "worst": "worst"}[THREATS[threat]]
    return name, "" if mode == "none" else noise_heading
