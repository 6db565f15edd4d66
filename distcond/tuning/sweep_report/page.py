"""A sweep as one HTML file that holds all it needs and works offline."""

from __future__ import annotations

import html
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from distcond.atomic_io import atomic_write_text
from distcond.reporting.mpl_style import COLOURS, GREY
from distcond.reporting.page import plotly_source
from distcond.tuning.sweep_report.commands import command
from distcond.tuning.sweep_report.curves import Point, learning, logarithmic, response, trade_off
from distcond.tuning.sweep_report.front import best, front
from distcond.tuning.sweep_report.importance import Importance
from distcond.tuning.sweep_report.read import Sweep
from distcond.tuning.sweep_report.words import cells, confirmed, heading

Plain = dict[str, Any]


def write_page(sweep: Sweep, path: Path, found: Importance | None) -> Path:
    """Write the page as the whole of `path`.

    Raises:
        ConfigError: plotly is missing.
    """
    parts = {
        "title": html.escape(f"{sweep.name}: {sweep.space['question']}"),
        "how": html.escape(" · ".join([*heading(sweep), confirmed(sweep)])),
        "commands": _commands(sweep),
        "table": _table(sweep),
        "plotly": plotly_source(),
        # Names come from users: "</script>" in one must not end the script.
        "figures": json.dumps(_figures(sweep, found), allow_nan=False).replace("<", "\\u003c"),
    }
    frame = resources.files("distcond.tuning.sweep_report").joinpath("page.html").read_text(encoding="utf-8")
    # In one pass: what is put in is not looked at again.
    atomic_write_text(path, re.sub(f"@({'|'.join(parts)})@", lambda name: parts[name[1]], frame))
    return path


def _figures(sweep: Sweep, found: Importance | None) -> list[Plain]:
    name = sweep.objectives[0]
    accuracies = _layout(
        "Pareto set (grey: dominated, hollow: stopped)", "SA, best over lam, %", "RA, best over lam, %"
    )
    figures = [{"data": [_dots(sweep, trade_off(sweep))], "layout": accuracies}]
    figures.append({"data": _learning(sweep), "layout": _layout("Learning curves", "epochs", name)})
    if found is not None:
        bars: Plain = {"type": "bar", "orientation": "h", "x": found.means[::-1], "y": found.names[::-1]}
        bars |= {"error_x": {"array": found.spreads[::-1]}, "marker": {"color": COLOURS[0]}}
        title = f"Importance (random forest, R2 out of bag {found.r2:.2f})"
        figures.append({"data": [bars], "layout": _layout(title, f"lost {name} when shuffled", "", automargin=True)})
    for setting in sweep.settings:
        points, names = response(sweep, setting)
        layout = _layout(f"{name} over {setting}", setting, name)
        if names:
            layout["xaxis"] |= {"tickvals": list(range(len(names))), "ticktext": names}
        elif logarithmic(sweep, setting):
            layout["xaxis"] |= {"type": "log"}
        figures.append({"data": [_dots(sweep, points)], "layout": layout})
    return figures


def _dots(sweep: Sweep, points: list[Point]) -> Plain:
    colours = [COLOURS[1] if point.inside else GREY for point in points]
    texts = {
        row["trial"]: "<br>".join(f"{k} {v}" for k, v in zip(*cells(sweep, row), strict=True)) for row in sweep.rows()
    }
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [point.x for point in points],
        "y": [point.y for point in points],
        "text": [html.escape(texts[point.trial]).replace("&lt;br&gt;", "<br>") for point in points],
        "hoverinfo": "text",
        "marker": {
            "size": 10,
            "color": [c if point.whole else "#ffffff" for c, point in zip(colours, points, strict=True)],
            "line": {"color": colours, "width": 2},
        },
    }


def _learning(sweep: Sweep) -> list[Plain]:
    top = best(sweep)
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": f"trial {number}",
            "showlegend": False,
            "x": [point[0] for point in curve],
            "y": [point[1] for point in curve],
            "line": {"color": COLOURS[1] if top and number == top["trial"] else GREY},
            "opacity": 1.0 if top and number == top["trial"] else 0.5,
        }
        for number, curve in learning(sweep).items()
    ]


def _layout(title: str, x: str, y: str, **more: Any) -> Plain:
    return {
        "title": {"text": html.escape(title), "font": {"size": 15}},
        "xaxis": {"title": {"text": html.escape(x)}},
        "yaxis": {"title": {"text": html.escape(y)}, **more},
        "margin": {"t": 40, "r": 20},
    }


def _commands(sweep: Sweep) -> str:
    found = "".join(
        f"<pre>trial {row['trial']}: {html.escape(command(sweep, row['trial']))}</pre>" for row in front(sweep)
    )
    return found or "<p>No trial has been trained to its end yet.</p>"


def _table(sweep: Sweep) -> str:
    inside = {row["trial"] for row in front(sweep)}
    rows = sweep.rows()
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in cells(sweep, rows[0])[0])
    lines = []
    for row in rows:
        grey = "" if row["trial"] in inside else ' class="grey"'
        lines.append(
            f"<tr{grey}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(sweep, row)[1]) + "</tr>"
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
