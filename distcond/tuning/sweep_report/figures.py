"""The figures of a sweep as PNGs: Pareto set, responses to each setting, importance, learning curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcond.reporting.mpl_style import COLOURS, GREY, INK, has_matplotlib, new_figure, save_png, style_axes
from distcond.tuning.sweep_report.curves import Point, learning, logarithmic, response, trade_off
from distcond.tuning.sweep_report.front import best
from distcond.tuning.sweep_report.importance import Importance
from distcond.tuning.sweep_report.read import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FADED = 0.45


def write_figures(sweep: Sweep, folder: Path, found: Importance | None) -> list[Path]:
    """Draw what there is to draw; none where matplotlib is missing."""
    if not any(trial.curve for trial in sweep.trials) or not has_matplotlib():
        return []
    drawn: dict[str, Callable[[], Figure]] = {
        "pareto.png": lambda: pareto_figure(sweep),
        "learning.png": lambda: learning_figure(sweep),
    }
    if sweep.settings:  # something varied
        drawn["response.png"] = lambda: response_figure(sweep)
    if found is not None:
        drawn["importance.png"] = lambda: importance_figure(sweep, found)
    return [save_png(draw(), folder / name) for name, draw in drawn.items()]


def pareto_figure(sweep: Sweep) -> Figure:
    """SA against RA; dominated trials and those that were stopped are grey."""
    figure = new_figure(sweep.name, "validation; grey: dominated, hollow: stopped early", width=7.5)
    axes = figure.subplots()
    style_axes(axes, "standard accuracy (best over lam), %", "robust accuracy (best over lam), %")
    points = trade_off(sweep)
    _dots(axes, points)
    for point in points:
        if point.inside:
            axes.annotate(str(point.trial), (point.x, point.y), xytext=(5, 4), textcoords="offset points", color=INK)
    return figure


def response_figure(sweep: Sweep) -> Figure:
    """The first objective over every setting that varied."""
    settings, columns = sweep.settings, min(3, len(sweep.settings))
    rows = math.ceil(len(settings) / columns)
    figure = new_figure(sweep.name, f"{sweep.objectives[0]} over each setting", width=4 * columns, height=1 + 3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, setting in zip(panels, settings, strict=False):
        points, names = response(sweep, setting)
        style_axes(axes, setting, sweep.objectives[0])
        _dots(axes, points)
        if names:
            axes.set_xticks(range(len(names)), names)
        elif logarithmic(sweep, setting):
            axes.set_xscale("log")
    for axes in panels[len(settings) :]:
        axes.set_visible(False)
    return figure


def learning_figure(sweep: Sweep) -> Figure:
    """The first objective over epochs, the best trial last and in colour."""
    figure = new_figure(sweep.name, "every trial; the best in colour", width=7.5)
    axes, top = figure.subplots(), best(sweep)
    style_axes(axes, "epochs", sweep.objectives[0])
    for number, curve in learning(sweep).items():
        mine = top is not None and number == top["trial"]
        style: dict[str, Any] = (
            {"color": COLOURS[1], "linewidth": 2.2, "zorder": 3} if mine else {"color": GREY, "alpha": FADED}
        )
        axes.plot(*zip(*curve, strict=True), marker=".", **style)
    return figure


def importance_figure(sweep: Sweep, found: Importance) -> Figure:
    """Bars of importance with their spread over shuffles."""
    how = f"mean absolute error gained by shuffling; R2 out of bag {found.r2:.2f}, {found.trials} trials"
    figure = new_figure(f"{sweep.name}: importance for {sweep.objectives[0]}", how, width=7.5)
    axes = figure.subplots()
    style_axes(axes, sweep.objectives[0], "")
    axes.barh(found.names[::-1], found.means[::-1], xerr=found.spreads[::-1], color=COLOURS[0], ecolor=GREY)
    return figure


def _dots(axes: Axes, points: list[Point]) -> None:
    for point in points:
        colour = COLOURS[1] if point.inside else GREY
        face = colour if point.whole else "white"
        axes.scatter([point.x], [point.y], s=42, color=colour, facecolor=face, zorder=3 if point.inside else 2)
