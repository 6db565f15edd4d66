"""Model card of an export, in the form the Hugging Face hub reads, and its line of a robustness leaderboard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from distcond.errors import ConfigError
from distcond.exporting.folder import ExportConfig
from distcond.operating_point import Blend, OperatingPoint
from distcond.results.labels import attack_label, pixel_fraction
from distcond.results.row import Row, accuracy, attack_of, interval

CARD_FILE, LEADERBOARD_FILE = "README.md", "leaderboard.json"


def rows_of(rows: Sequence[Row], config: ExportConfig, checkpoint: str) -> list[Row]:
    """The test rows that measured the exported network, standard accuracy first.

    Raises:
        ConfigError: there is no row of SA, or none of RA, at this operating point.
    """
    point = config.operating_point
    # Rows of another epoch are of other weights: a run that went on keeps those of its earlier end.
    fixed = {"split": "test", "checkpoint": checkpoint, "blend": point["blend"], "epoch": config.provenance["epoch"]}
    numbers = {"lam": point["lam"], "blend_t": point["t"], "width": point["width"]}
    found = [
        row
        for row in rows
        if all(getattr(row, name) == value for name, value in fixed.items())
        and all(abs(getattr(row, name) - value) < 1e-6 for name, value in numbers.items())
        and (row.noise_mode == "none" or (row.noise_mode == "fixed" and row.noise_seed == point["noise_seed"]))
        and row.threat in ("adaptive", "worst")
    ]
    found.sort(key=lambda row: (row.attack != "none", row.attack, row.epsilon))
    for what, there in (("SA", found and found[0].attack == "none"), ("RA", found and found[-1].attack != "none")):
        if not there:
            raise ConfigError(
                f"model card: no {what} of {_name(config)} on the test split (measured: {_measured(rows)}); "
                "python -m distcond.evaluate counts it, card=false leaves the card out"
            )
    return found


def _name(config: ExportConfig) -> str:
    point = config.operating_point
    return str(OperatingPoint(point["lam"], point["blend"], point["t"]))


def _measured(rows: Sequence[Row]) -> str:
    points = {OperatingPoint(row.lam, cast("Blend", row.blend), row.blend_t) for row in rows if row.split == "test"}
    return ", ".join(map(str, sorted(points))) or "none"


def write_card(folder: Path, config: ExportConfig, rows: Sequence[Row], files: Sequence[str]) -> None:
    """Write the model card and the leaderboard line; `files` are the exported files."""
    (folder / CARD_FILE).write_text(_card(config, rows, files), encoding="utf-8")
    text = json.dumps(leaderboard_entry(config, rows), indent=1) + "\n"
    (folder / LEADERBOARD_FILE).write_text(text, encoding="utf-8")


def leaderboard_entry(config: ExportConfig, rows: Sequence[Row]) -> dict[str, Any]:
    """What a leaderboard such as RobustBench's asks of an entry; accuracies in percent, None where not measured."""
    attacked = _of_one_threat([row for row in rows if row.attack != "none"])
    full = [row for row in attacked if row.attack == "autoattack"]
    strongest = min(attacked, key=accuracy)
    return {
        "name": config.provenance["run_id"],
        "architecture": config.architecture,
        "dataset": config.provenance["dataset"],
        "norm": strongest.norm,
        "eps": pixel_fraction(strongest.epsilon),
        "clean_acc": _percent(rows[0]),
        "autoattack_acc": min(map(_percent, full)) if full else None,
        "best_known_acc": _percent(strongest),
        "best_known_attack": attack_label(attack_of(strongest)),
        "num_examples": strongest.num_examples,
        "additional_data": bool(config.provenance["extra_data"]),
        "gradient_masking_flags": _flags(rows),
    }


def _of_one_threat(attacked: Sequence[Row]) -> list[Row]:
    """Rows of one norm and epsilon, whose accuracies compare: those with AutoAttack, else with most rows or epsilon."""
    threats: dict[tuple[str, float], list[Row]] = {}
    for row in attacked:
        threats.setdefault((row.norm, attack_of(row).epsilon), []).append(row)
    best = max(
        threats, key=lambda one: (any(row.attack == "autoattack" for row in threats[one]), len(threats[one]), one[1])
    )
    return threats[best]


def _percent(row: Row) -> float:
    return round(100 * accuracy(row), 2)


def _flags(rows: Sequence[Row]) -> list[str]:
    return sorted({flag for row in rows for flag in row.warnings.split(",") if flag})


def _card(config: ExportConfig, rows: Sequence[Row], files: Sequence[str]) -> str:
    name = config.provenance["run_id"]
    front = {
        "library_name": "distcond",
        "pipeline_tag": "image-classification",
        "tags": ["adversarial-robustness", "distcond"],
        "model-index": [{"name": name, "results": [_result(config, rows)]}],
    }
    # JSON is YAML: names of users' data sets cannot break it.
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", "", f"# {name}", ""]
    lines += [_point_text(config), "", "| attack | accuracy | 95 % interval | images |", "|---|---|---|---|"]
    lines += [_table_line(row) for row in rows]
    flags = _flags(rows)
    lines += ["", f"Gradient masking checks: {', '.join(flags) if flags else 'no flag'}.", "", "## Use", ""]
    lines += [_use(config, files), "", "## Provenance", ""]
    lines += [f"- {key}: `{value}`" for key, value in config.provenance.items() if value != ""]
    lines += [f"- files: {', '.join(files)}"]
    return "\n".join(lines) + "\n"


def _use(config: ExportConfig, files: Sequence[str]) -> str:
    """How to read the files that are there."""
    size = config.image_size
    lines = [f"Images are RGB in [0, 1], {size} x {size} pixels; the normalisation is inside."]
    for name, code in _READERS.items():
        lines += ["", *(f"    {line}" for line in code)] if name in files else []
    return "\n".join(lines)


#: How to read each file.
_READERS = {
    "model.safetensors": (
        "import distcond",
        'network = distcond.load("FOLDER")  # plain torch layers, logits = network(images)',
    ),
    "model.pt2": ("import torch", 'network = torch.export.load("FOLDER/model.pt2").module()  # without distcond'),
    "model.onnx": (
        "import onnxruntime",
        'session = onnxruntime.InferenceSession("FOLDER/model.onnx")',
        'logits = session.run(["logits"], {"image": images})[0]',
    ),
}


def _point_text(config: ExportConfig) -> str:
    point = config.operating_point
    where = f"{point['blend']} blend, t = {point['t']:g}, " if point["blend"] else ""
    return (
        f"{config.architecture}, {config.num_classes} classes, trained by {config.provenance['method']} on "
        f"{config.provenance['dataset']}; operating point: {where}lam = {point['lam']:g}, width {point['width']:g}. "
        "0 is the most accurate end, 1 the most robust."
    )


def _table_line(row: Row) -> str:
    low, high = interval(row)
    attack = "none" if row.attack == "none" else attack_label(attack_of(row))
    return f"| {attack} | {_percent(row)} % | {100 * low:.2f} to {100 * high:.2f} % | {row.num_examples} |"


def _result(config: ExportConfig, rows: Sequence[Row]) -> dict[str, Any]:
    """The measurements as the hub's `model-index` has them."""
    dataset = config.provenance["dataset"]
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": dataset, "type": dataset, "split": "test"},
        "metrics": [_metric(row) for row in rows],
    }


def _metric(row: Row) -> dict[str, Any]:
    low, high = interval(row)
    attack = attack_label(attack_of(row))
    return {
        "type": "accuracy",
        "name": "standard accuracy" if row.attack == "none" else f"robust accuracy under {attack}",
        "value": _percent(row),
        "args": {
            "attack": row.attack,
            "norm": row.norm,
            "epsilon": row.epsilon,
            "steps": row.num_steps,
            "restarts": row.restarts,
            "precision": row.precision,
            "num_examples": row.num_examples,
            "interval_95": [round(100 * low, 2), round(100 * high, 2)],
        },
    }
