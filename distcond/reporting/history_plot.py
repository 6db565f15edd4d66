"""The history of a training run as a PNG: loss, learning rate, and SA and RA on validation, over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcond.reporting.mpl_style import GREY, INK, has_matplotlib, lam_colour, new_figure, save_png, style_axes
from distcond.results.history import Record, read
from distcond.results.labels import format_duration
from distcond.run_layout import RESULTS_DIR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HISTORY_PNG = "history.png"


def history_png(run_dir: Path | str, path: Path | str | None = None) -> Path | None:
    """Draw `<run_dir>/history.jsonl` to `path`, by default `<run_dir>/results/history.png`; return the path.

    Returns None without a history, and without matplotlib, which logs one line.
    """
    records = read(run_dir)
    if not records or not has_matplotlib():
        return None
    target = Path(path or Path(run_dir) / RESULTS_DIR / HISTORY_PNG)
    return save_png(draw_history(records, Path(run_dir).absolute().name), target)


def draw_history(records: Sequence[Record], name: str) -> Figure:
    """The figure: loss and learning rate on the left, accuracies (if any) on the right."""
    points = sorted({(p.get("width", 1.0), _position(p)) for record in records for p in record.get("val") or []})
    figure = new_figure(name, _subtitle(records), width=11.5 if points else 7.5)
    grid = figure.add_gridspec(2, 2 if points else 1, height_ratios=(4, 1))
    loss = figure.add_subplot(grid[0, 0])
    style_axes(loss, "", "loss", "Training loss, and learning rate below")
    _line(loss, [(r["epoch"], r["train_loss"]) for r in records if r.get("train_loss") is not None], INK)
    loss.tick_params(labelbottom=False)
    rate = figure.add_subplot(grid[1, 0])
    style_axes(rate, "epoch", "lr")
    _line(rate, [(r["epoch"], r["lr"]) for r in records if r.get("lr") is not None], GREY)
    rate.margins(y=0.2)
    if points:
        _accuracies(figure.add_subplot(grid[:, 1]), records, points)
    for axes in figure.axes:
        _set_epoch_ticks(axes, records[0]["epoch"], records[-1]["epoch"])
    return figure


def _accuracies(axes: Axes, records: Sequence[Record], points: Sequence[tuple[float, float]]) -> None:
    """SA solid and RA dashed, one colour per lam, for the largest width."""
    widest = max(width for width, _ in points)
    lams = [lam for width, lam in points if width == widest]
    style_axes(axes, "epoch", "accuracy, %", "Validation SA (solid) and RA (dashed)")
    blended = any("blend" in point for record in records for point in record.get("val") or [])
    for rank, lam in enumerate(lams):
        # By rank, not by value: grids are dense near 0, and neighbours need distinct colours.
        colour = lam_colour(rank / max(len(lams) - 1, 1))
        _line(axes, _scores(records, "sa", lam, widest), colour, "-")
        _line(axes, _scores(records, "ra", lam, widest), colour, "--")
        axes.plot([], [], color=colour, linewidth=3, label=f"{'t' if blended else 'λ'} = {lam:.3g}")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=10, loc="upper left", bbox_to_anchor=(1, 1))


def _line(axes: Axes, points: Sequence[tuple[int, float]], colour: str, dash: str = "-") -> None:
    # Markers for short lines: a line of one point would be invisible.
    marker = "o" if len(points) < 12 else ""
    x, y = [x for x, _ in points], [y for _, y in points]
    axes.plot(x, y, color=colour, linestyle=dash, marker=marker, linewidth=2, clip_on=False)


def _set_epoch_ticks(axes: Axes, first: int, last: int) -> None:
    from matplotlib.ticker import MaxNLocator

    margin = max(0.5, 0.03 * (last - first))
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def _scores(records: Sequence[Record], score: str, lam: float, width: float) -> list[tuple[int, float]]:
    return [
        (record["epoch"], 100 * point[score])
        for record in records
        for point in record.get("val") or []
        if (_position(point), point.get("width", 1.0)) == (lam, width) and point.get(score) is not None
    ]


def _position(point: Mapping[str, Any]) -> float:
    """The position on the curve: the share t of a blend, otherwise lam."""
    return float(point["blend_t"] if "blend" in point else point["lam"])


def _subtitle(records: Sequence[Record]) -> str:
    """Epochs, duration and median speed."""
    parts = [f"{len(records)} epochs" if len(records) > 1 else "1 epoch"]
    seconds = [record["seconds"] for record in records if record.get("seconds") is not None]
    speeds = sorted(record["images_per_second"] for record in records if record.get("images_per_second") is not None)
    parts += [format_duration(sum(seconds))] if seconds else []
    parts += [f"median {speeds[len(speeds) // 2]:,.0f} images/s"] if speeds else []
    return " · ".join(parts)
