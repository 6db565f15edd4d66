"""A run as a small HTML table, for notebooks."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from distcond.errors import ConfigError
from distcond.results.labels import threat_model
from distcond.runs.run_files import RunFiles
from distcond.runs.status import read_status

if TYPE_CHECKING:
    from distcond.api.run import Run


def run_as_html(run: Run) -> str:
    """What the run is, its state, and SA and RA along its dial where they were measured."""
    config = run.config
    status = read_status(RunFiles(str(run.path)), run.name)
    state = status.state
    if status.epoch is not None and state != "finished":
        state += f", epoch {status.epoch} of {status.epochs}"
    names = ", ".join((config.method.name, config.model.name, config.data.name, f"seed {config.seed}"))
    facts = {
        "run": str(run.place),
        "recipe": f"{config.recipe} ({names})",
        "threat model": threat_model(config),
        "state": ": ".join(filter(None, (state, status.error))),
    }
    head = "".join(
        f'<tr><th style="text-align:left">{name}</th><td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in facts.items()
    )
    return f"<table>{head}</table>{_curve(run)}"


def _curve(run: Run) -> str:
    try:
        curve = run.curve()
    except ConfigError:  # nothing was measured yet
        return ""
    names = ["dial", *(["width"] if curve["width"].nunique() > 1 else []), "SA %", "RA %"]
    lines = []
    for point in curve.itertuples():
        width = [f"{point.width:g}"] if "width" in names else []
        scores = _percent(point.sa, point.sa_low, point.sa_high), _percent(point.ra, point.ra_low, point.ra_high)
        lines.append([f"{point.dial:g}", *width, *scores])
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>{cells}</table>"


def _percent(value: float, low: float, high: float) -> str:
    """An accuracy with its 95 % interval, in percent; empty where it was not measured."""
    return "" if math.isnan(value) else f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"
