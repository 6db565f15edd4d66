"""Which trials are worth having: none other is as good in everything and better in something."""

from __future__ import annotations

from typing import Any, NamedTuple

from distcond.tuning.sweep_report.read import Sweep

Plain = dict[str, Any]


class Goal(NamedTuple):
    """A column and whether more is better."""

    column: str
    up: bool


def goals(sweep: Sweep) -> list[Goal]:
    """The sweep's objectives, or, where it has only one: SA, RA and training FLOPs."""
    if len(sweep.objectives) > 1:
        return [Goal(name, up) for name, up in zip(sweep.objectives, sweep.up, strict=True)]
    return [Goal("sa", True), Goal("ra", True), Goal("train_flops", False)]


def front(sweep: Sweep) -> list[Plain]:
    """Rows of the Pareto set, among trials trained to the end: one that was stopped is cheap by that alone."""
    asked = goals(sweep)
    rows = [row for row in sweep.rows() if row["state"] == "finished" and all(row[g.column] is not None for g in asked)]
    offers = [tuple(row[g.column] if g.up else -row[g.column] for g in asked) for row in rows]
    return [row for row, mine in zip(rows, offers, strict=True) if not any(_beats(other, mine) for other in offers)]


def best(sweep: Sweep) -> Plain | None:
    """The row with the best first objective: among finished trials, or, before there are any, among all."""
    name, up = sweep.objectives[0], sweep.up[0]
    rows = [row for row in sweep.rows() if row[name] is not None and row["state"] != "failed"]
    rows = [row for row in rows if row["state"] == "finished"] or rows
    return max(rows, key=lambda row: row[name] if up else -row[name], default=None)


def _beats(other: tuple[float, ...], mine: tuple[float, ...]) -> bool:
    return other != mine and all(a >= b for a, b in zip(other, mine, strict=True))
