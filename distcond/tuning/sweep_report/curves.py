"""What the figures of a sweep show, as plain points: the same for PNGs and the page."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from distcond.tuning.sweep_report.commands import text
from distcond.tuning.sweep_report.front import front
from distcond.tuning.sweep_report.read import Sweep


class Point(NamedTuple):
    """A trial in a figure."""

    trial: int
    x: float
    y: float
    inside: bool  # of the Pareto set
    whole: bool  # trained to the end


def trade_off(sweep: Sweep) -> list[Point]:
    """SA against RA of every trial that was validated, in percent."""
    inside = {row["trial"] for row in front(sweep)}
    rows = [row for row in sweep.rows() if row["sa"] is not None]
    return [
        Point(row["trial"], 100 * row["sa"], 100 * row["ra"], row["trial"] in inside, row["state"] == "finished")
        for row in rows
    ]


def response(sweep: Sweep, setting: str) -> tuple[list[Point], list[str]]:
    """The first objective over one setting, and the names of its values where they are no numbers."""
    inside, name = {row["trial"] for row in front(sweep)}, sweep.objectives[0]
    rows = [row for row in sweep.rows() if row[name] is not None and row[setting] is not None]
    numbers = all(isinstance(row[setting], int | float) and not isinstance(row[setting], bool) for row in rows)
    names = [] if numbers else sorted({json.dumps(row[setting]) for row in rows})
    places = [float(row[setting]) if numbers else float(names.index(json.dumps(row[setting]))) for row in rows]
    points = [
        Point(row["trial"], x, row[name], row["trial"] in inside, row["state"] == "finished")
        for row, x in zip(rows, places, strict=True)
    ]
    return points, [text(json.loads(one)) or "(empty)" for one in names]


def learning(sweep: Sweep) -> dict[int, list[tuple[float, float]]]:
    """Of every trial (epochs, first objective)."""
    return {trial.number: [(p[0], p[1]) for p in trial.curve] for trial in sweep.trials if trial.curve}


def logarithmic(sweep: Sweep, setting: str) -> bool:
    """Whether a setting was searched on a logarithmic scale."""
    axis: dict[str, Any] = sweep.space["axes"].get(setting, {})
    return axis.get("kind") == "loguniform"
