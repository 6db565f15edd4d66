"""The numbers of a history's record, and of a finished run, by names that tools group by their first part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NAMES = {
    "train_loss": "train/loss",
    "train_sa": "train/sa",
    "train_ra": "train/ra",
    "lr": "train/lr",
    "train_flops": "train/flops",
    "images_per_second": "time/images_per_second",
    "seconds": "time/seconds",
    "val_score": "val/score",
}


def epoch_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """`train/loss`, `val/sa at lam 0.2`, `time/share attack`, ...: what the record holds that is a number."""
    found: dict[str, Any] = {name: record.get(key) for key, name in _NAMES.items()}
    found |= {f"time/share {part}": share for part, share in (record.get("shares") or {}).items()}
    found |= point_metrics("val", record.get("val") or [])
    return {name: float(value) for name, value in found.items() if value is not None}


def point_metrics(split: str, points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """SA and RA at every operating point."""
    several = len({point.get("width") for point in points}) > 1
    found = dict[str, float]()
    for point in points:
        at = f"at lam {point['lam']:g}" + (f" width {point['width']:g}" if several else "")
        found |= {f"{split}/{kind} {at}": point[kind] for kind in ("sa", "ra") if kind in point}
    return found
