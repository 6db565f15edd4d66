"""What a finished run cost, in a few lines for people; the numbers are in its `finished.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from distcond.errors import ConfigError
from distcond.operating_point import Blend, OperatingPoint
from distcond.results.store import read_runs
from distcond.run_layout import FINISHED_FILE, RESULTS_DIR

#: Of an evaluation, beside its rows.
COSTS_GLOB = "costs-*.json"


class PointKey(NamedTuple):
    """A place of a run; numbers as rounded to 1e-6."""

    run_id: str
    lam: float
    width: float
    blend: Blend = ""
    blend_t: float = 0.0

    @property
    def place(self) -> OperatingPoint:
        """Where the network stands, whatever its width."""
        return OperatingPoint(self.lam, self.blend, self.blend_t)


class InferenceCost(NamedTuple):
    """What one image costs there: FLOPs without multiplications with zero weights, and weights that are not zero."""

    flops: float
    nonzeros: int


def costs_below(*roots: Path | str) -> dict[PointKey, InferenceCost]:
    """What the runs at or below folders say an image costs at each of their operating points.

    At the end of training it was counted at the last checkpoint: a method that still moves its masks may have spent a
    little else at the best one. Evaluations have counted what they looked at.
    """
    found = {}
    for run_id, run_dir in run_dirs_below(*roots).items():
        counted = [
            _read_costs(file) for file in (*sorted((run_dir / RESULTS_DIR).glob(COSTS_GLOB)), run_dir / FINISHED_FILE)
        ]
        for p in [point for of in counted for point in of.get("points", [])]:
            at = PointKey(
                run_id, round(p["lam"], 6), round(p["width"], 6), p.get("blend", ""), round(p.get("blend_t", 0), 6)
            )
            found[at] = InferenceCost(p["flops"], p["nonzeros"])
    return found


def run_dirs_below(*roots: Path | str) -> dict[str, Path]:
    """The run directories at or below folders by the run_id of their rows, as `read_runs` names it."""
    # Not the folder's name: a run that was moved or renamed keeps its rows.
    return {row.run_id: run_dir for run_dir, rows in read_runs(roots).items() for row in rows}


def cost_lines(run_dir: Path | str) -> str:
    """Parameters, training FLOPs, and per operating point inference FLOPs, density and gaps; "" before the end."""
    found = _read_costs(Path(run_dir) / FINISHED_FILE)
    points = found.get("points")
    if not points:
        return ""
    head = f"parameters {found['parameters']:,} | training {found['train_flops']:.3g} FLOPs"
    cheapest, dearest = (pick(points, key=lambda point: point["flops"]) for pick in (min, max))
    spread = "" if cheapest["flops"] == dearest["flops"] else f" (down to {_inference(cheapest)})"
    gaps = [_gap(points, name) for name in ("robust_overfitting_gap", "robust_generalization_gap")]
    return "\n".join(filter(None, (f"{head} | inference {_inference(dearest)}{spread}", *gaps)))


def _read_costs(file: Path) -> dict[str, Any]:
    """What a run came to; empty before its end."""
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise ConfigError(f"{file}: damaged, no JSON ({error}); put back the file that the run wrote") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: damaged, not what a run writes; put back the file that the run wrote")
    return found


def _inference(point: dict[str, Any]) -> str:
    share = f", density {point['density']:.3f}" if point["density"] < 1 else ""
    width = f", width {point['width']:g}" if point["width"] != 1 else ""
    return f"{point['flops']:.3g} FLOPs per image{share}{width}"


def _gap(points: list[dict[str, Any]], name: str) -> str:
    values = [f"{100 * point[name]:+.1f} at {_place(point)}" for point in _widest(points) if point[name] is not None]
    return f"{name.replace('_', ' ')}, points: {', '.join(values)}" if values else ""


def _place(point: dict[str, Any]) -> OperatingPoint:
    return OperatingPoint(point["lam"], point.get("blend", ""), point.get("blend_t", 0.0))


def _widest(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [point for point in points if point["width"] == max(other["width"] for other in points)]
