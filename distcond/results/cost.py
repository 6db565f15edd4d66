"""The cost of finished runs, from `finished.json` and `results/costs-*.json`, and a summary as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distcond.atomic_io import read_json
from distcond.errors import ConfigError
from distcond.results.row import Row
from distcond.results.series import PointKey
from distcond.results.store import read_runs
from distcond.run_layout import FINISHED_FILE, RESULTS_DIR

#: Written by an evaluation, next to its rows.
COSTS_GLOB = "costs-*.json"


class InferenceCost(NamedTuple):
    """The cost of one image: FLOPs without multiplications by zero weights, and the number of nonzero weights."""

    flops: float
    nonzeros: int


def costs_below(*roots: Path | str) -> dict[PointKey, InferenceCost]:
    """The inference cost at each operating point of the runs in or below folders; see `costs_of`."""
    return costs_of(run_dirs_below(*roots))


def costs_of(run_dirs: Mapping[str, Path]) -> dict[PointKey, InferenceCost]:
    """The inference cost at each operating point of runs, by run_id.

    Costs in `finished.json` are those of the last checkpoint: a method that still changes its masks may differ slightly
    at the best one. Evaluations count the checkpoint they evaluate.

    Raises:
        ConfigError: a file is damaged.
    """
    costs = {}
    for run_id, run_dir in run_dirs.items():
        for file in (*sorted((run_dir / RESULTS_DIR).glob(COSTS_GLOB)), run_dir / FINISHED_FILE):
            points = _read_costs(file).get("points", [])
            for point in (point for point in points if {"width", "flops", "nonzeros"} <= point.keys()):
                costs[_point_key(run_id, point)] = InferenceCost(point["flops"], point["nonzeros"])
    return costs


def run_dirs_below(*roots: Path | str) -> dict[str, Path]:
    """The run directories in or below folders, by the run_id of their rows (see `read_runs`)."""
    return run_dirs_of(read_runs(roots))


def run_dirs_of(runs: Mapping[Path, Sequence[Row]]) -> dict[str, Path]:
    """The run directories by the run_id of their rows. A run that was moved or renamed keeps its rows and their ID."""
    return {row.run_id: run_dir for run_dir, rows in runs.items() for row in rows}


def cost_lines(run_dir: Path | str) -> str:
    """Parameters, training FLOPs, range of inference FLOPs and robustness gaps as text; "" before the run finished."""
    record = _read_costs(Path(run_dir) / FINISHED_FILE)
    points = record.get("points")
    if not points or not {"parameters", "train_flops"} <= record.keys():
        return ""
    head = f"parameters {record['parameters']:,} | training {record['train_flops']:.3g} FLOPs"
    low, high = (pick(points, key=lambda point: point["flops"]) for pick in (min, max))
    spread = "" if low["flops"] == high["flops"] else f" (down to {_inference(low)})"
    gaps = [_gap_line(points, name) for name in ("robust_overfitting_gap", "robust_generalization_gap")]
    return "\n".join(filter(None, (f"{head} | inference {_inference(high)}{spread}", *gaps)))


def read_summary(run_dir: Path | str) -> dict[str, Any] | None:
    """The content of `finished.json`; None before the run is finished, or if the file is damaged."""
    file = Path(run_dir) / FINISHED_FILE
    try:
        return _read_costs(file) if file.exists() else None
    except ConfigError:
        return None


def _read_costs(file: Path) -> dict[str, Any]:
    """A record of costs; empty if the file does not exist.

    Raises:
        ConfigError: the file is damaged.
    """
    record = read_json(file) if file.exists() else {}
    if not isinstance(record, dict) or not is_summary(record):
        raise ConfigError(f"{file}: damaged, not a summary of costs; the command that wrote it does so again")
    return record


def is_summary(record: Mapping[str, Any]) -> bool:
    """Whether what is read of a record has the right types: totals, and a list of operating points with their costs."""
    points = record.get("points", [])
    if not (isinstance(points, list) and all(isinstance(point, dict) and _is_point(point) for point in points)):
        return False
    return all(isinstance(record.get(name, 0), int | float) for name in ("epochs", "parameters", "train_flops"))


def _is_point(point: Mapping[str, Any]) -> bool:
    numbers = [value for name, value in point.items() if name != "blend" and value is not None]
    return "lam" in point and all(isinstance(value, int | float) for value in numbers)


def _point_key(run_id: str, point: dict[str, Any]) -> PointKey:
    return PointKey.of(run_id, point["lam"], point["width"], point.get("blend", ""), point.get("blend_t", 0.0))


def _inference(point: dict[str, Any]) -> str:
    density = f", density {point['density']:.3f}" if point.get("density", 1) < 1 else ""
    width = f", width {point['width']:g}" if point["width"] != 1 else ""
    return f"{point['flops']:.3g} FLOPs per image{density}{width}"


def _gap_line(points: list[dict[str, Any]], name: str) -> str:
    """The gap at every operating point of the full width, in percentage points."""
    widest = max(point["width"] for point in points)
    gaps = [
        f"{100 * point[name]:+.1f} at {_point_key('', point).point.place}"
        for point in points
        if point["width"] == widest and point.get(name) is not None
    ]
    return f"{name.replace('_', ' ')}, points: {', '.join(gaps)}" if gaps else ""
