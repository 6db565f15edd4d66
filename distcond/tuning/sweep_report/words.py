"""A sweep in words: what was asked, its table, what mattered, and the commands of its Pareto set."""

from __future__ import annotations

import json
from typing import Any

from distcond.results.labels import format_duration
from distcond.tuning.sweep_report.commands import command, text
from distcond.tuning.sweep_report.front import front, goals
from distcond.tuning.sweep_report.importance import FEWEST, Importance
from distcond.tuning.sweep_report.read import Sweep

Plain = dict[str, Any]


def heading(sweep: Sweep) -> list[str]:
    """What was asked, in a few lines."""
    options, rows = sweep.options, sweep.rows()
    states = {state: sum(row["state"] == state for row in rows) for state in dict.fromkeys(r["state"] for r in rows)}
    how = " ".join(f"{name}={options[name]}" for name in ("search", "scheduler", "search_seed") if name in options)
    how = how or "a script of its own"
    spent = f"{sum(row['train_flops'] for row in rows):.3g} training FLOPs, "
    return [
        f"{sweep.space['question'] or sweep.name}",
        f"compared: {sweep.compared}",
        f"{how}: {', '.join(f'{count} {state}' for state, count in states.items())}",
        f"spent: {spent}{format_duration(sum(row['seconds'] for row in rows))} of training and validation",
    ]


def confirmed(sweep: Sweep) -> str:
    """What fresh seeds and a strong attack said of the winner; that nobody has asked, while nobody has."""
    file = sweep.path / "confirm.json"
    if not file.exists():
        again = f"python -m distcond.tune --confirm {sweep.path}"
        return f"winner: chosen as the best of many on one seed by a cheap attack; not better before {again} says so"
    told = json.loads(file.read_text(encoding="utf-8"))
    order = "holds" if told["order_holds"] else "changes"
    return (
        f"winner: trial {told['winner']} against the recipe on test under {told['attack']}: {told['verdict']}; "
        f"the order of the finished trials among the first {len(told['finalists'])} {order} under that attack"
        + (f"; {told['proxy']}" if "proxy" in told else "")  # an older file has none
    )


def cells(sweep: Sweep, row: Plain) -> tuple[list[str], list[str]]:
    """Names and texts of a row's columns."""
    names = ["trial", "state", *sweep.settings, *sweep.objectives, "sa", "ra", "epochs", "seconds", "train_flops"]
    return names, [_cell(row[name]) for name in names]


def table(sweep: Sweep) -> str:
    """Every trial in Markdown, `*` at those of the Pareto set."""
    rows, inside = sweep.rows(), {row["trial"] for row in front(sweep)}
    if not rows:
        return "no trial yet"
    found = [cells(sweep, row)[1] for row in rows]
    for row, line in zip(rows, found, strict=True):
        line[0] += " *" if row["trial"] in inside else ""
    names = cells(sweep, rows[0])[0]
    widths = [max(len(line[i]) for line in [names, *found]) for i in range(len(names))]
    lines = [names, ["-" * width for width in widths], *found]
    return "\n".join("| " + " | ".join(f"{c:>{w}}" for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def failures(sweep: Sweep) -> str:
    """A line for every trial that failed."""
    return "\n".join(f"trial {row['trial']} failed: {row['error']}" for row in sweep.rows() if row["state"] == "failed")


def importance_text(sweep: Sweep, found: Importance | None) -> str:
    """What mattered."""
    if found is None:
        return f"importance: needs {FEWEST} trials with {sweep.objectives[0]}"
    head = f"importance for {sweep.objectives[0]} (random forest, permutation; R2 out of bag {found.r2:.2f}"
    doubt = "; it predicts nothing, so these mean nothing" if found.r2 < 0.1 else ""
    lines = [f"  {n}: {m:.3g} +- {s:.2g}" for n, m, s in zip(found.names, found.means, found.spreads, strict=True)]
    return "\n".join([f"{head}, {found.trials} trials{doubt}):", *lines])


def commands(sweep: Sweep) -> str:
    """How to repeat each trial of the Pareto set."""
    rows = front(sweep)
    if not rows:
        return "Pareto set: no trial has been trained to its end yet"
    by = ", ".join(f"{goal.column} {'up' if goal.up else 'down'}" for goal in goals(sweep))
    return "\n".join([f"Pareto set ({by}, finished trials):", *(f"  {command(sweep, row['trial'])}" for row in rows)])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else text(value)
