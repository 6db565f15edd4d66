"""The style of all figures. Uses matplotlib's object interface: no global state, no display."""

from __future__ import annotations

import io
import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from distcond.atomic_io import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

# The palette of Okabe and Ito, distinct for every kind of colour vision, without yellow, which is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LAM_STOPS = (COLOURS[0], "#9E5FA8", COLOURS[1])
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, FAINT, GREY, GRID = "#262626", "#666666", "#9A9A9A", "#E3E3E3"
DPI, NOTEBOOK_DPI = 160, 80
HEAD_INCHES = 0.75


def has_matplotlib() -> bool:
    """Whether matplotlib is installed; logs one line if not."""
    try:
        import_module("matplotlib.figure")
    except ImportError:
        log.warning("no figure: matplotlib is missing (pip install matplotlib)")
        return False
    return True


def new_figure(title: str, subtitle: str, width: float = 11.5, height: float = 5.2) -> Figure:
    """An empty figure of `width` x `height` inches with a title and a subtitle. Notebooks show it as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    class NotebookFigure(Figure):
        # Without pyplot, which distcond does not import, notebooks know no picture of a figure.
        def _repr_png_(self) -> bytes:
            png = io.BytesIO()
            self.savefig(png, format="png", dpi=NOTEBOOK_DPI)
            return png.getvalue()

    layout = ConstrainedLayoutEngine(rect=(0.008, 0.01, 0.984, 0.98 - HEAD_INCHES / height), wspace=0.06)
    figure = NotebookFigure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    left = 0.18 / width
    figure.text(left, 1 - 0.17 / height, title, size=14, weight="bold", color=INK, va="top")
    figure.text(left, 1 - 0.46 / height, subtitle, size=10, color=FAINT, va="top")
    return figure


def style_axes(axes: Axes, xlabel: str, ylabel: str, title: str = "") -> None:
    """Set axis labels, a light grid behind the data, and no frame."""
    axes.set_xlabel(xlabel, size=11, color=INK, labelpad=6)
    axes.set_ylabel(ylabel, size=11, color=INK, labelpad=6)
    axes.set_title(title, size=11, weight="bold", color=INK, loc="left", pad=8)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=10, colors=FAINT, length=0, pad=5)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(GREY)


def lam_colour(lam: float) -> str:
    """The colour of `lam` in [0, 1]: from the colour of SA at 0 through purple to the colour of RA at 1."""
    start, end = LAM_STOPS[:2] if lam < 0.5 else LAM_STOPS[1:]
    share = 2 * lam % 1 if lam < 1 else 1.0
    pairs = [(int(start[i : i + 2], 16), int(end[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in pairs)


def save_png(figure: Figure, path: Path) -> Path:
    """Write the figure to `path` as a PNG, atomically; return `path`."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
