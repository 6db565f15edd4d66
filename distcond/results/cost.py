"""What a finished run cost, in a few lines for people; the numbers are in its `finished.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "finished.json"


def cost_lines(run_dir: Path | str) -> str:
    """Parameters, training FLOPs, and per operating point inference FLOPs, density and gaps; "" before the end."""
    file = Path(run_dir) / FILE
    if not file.exists():
        return ""
    found = json.loads(file.read_text())
    points = found.get("points")
    if not points:
        return ""
    head = f"parameters {found['parameters']:,} | training {found['train_flops']:.3g} FLOPs"
    cheapest, dearest = (pick(points, key=lambda point: point["flops"]) for pick in (min, max))
    spread = "" if cheapest["flops"] == dearest["flops"] else f" (down to {_inference(cheapest)})"
    gaps = [_gap(points, name) for name in ("robust_overfitting_gap", "robust_generalization_gap")]
    return "\n".join(filter(None, (f"{head} | inference {_inference(dearest)}{spread}", *gaps)))


def _inference(point: dict[str, Any]) -> str:
    share = f", density {point['density']:.3f}" if point["density"] < 1 else ""
    width = f", width {point['width']:g}" if point["width"] != 1 else ""
    return f"{point['flops']:.3g} FLOPs per image{share}{width}"


def _gap(points: list[dict[str, Any]], name: str) -> str:
    values = [
        f"{100 * point[name]:+.1f} at lam {point['lam']:g}" for point in _widest(points) if point[name] is not None
    ]
    return f"{name.replace('_', ' ')}, points: {', '.join(values)}" if values else ""


def _widest(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [point for point in points if point["width"] == max(other["width"] for other in points)]
