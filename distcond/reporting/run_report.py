"""The report of a run, or of every run below a folder: the trade-off as text, Markdown and figures."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from distcond.atomic_io import atomic_write_text
from distcond.reporting.history_plot import HISTORY_PNG, history_png
from distcond.reporting.page import write_page
from distcond.reporting.trade_off_plot import trade_off_png
from distcond.results.comparison import comparison_groups
from distcond.results.cost import cost_lines, costs_below
from distcond.results.row import Row
from distcond.results.store import part_files, read_rows
from distcond.results.tables import markdown_table, trade_off_table
from distcond.run_layout import HISTORY_FILE, RESULTS_DIR

TABLE, CURVE, PAGE = "table.md", "curve.png", "page.html"


def summarise(run_dir: Path | str) -> str:
    """The trade-off table and where the files behind it are.

    Raises:
        ConfigError: there is no such folder, or a result in it cannot be read.
    """
    files = "\n".join(f"{what:<9}{path}" for what, path in _files(Path(run_dir)))
    return "\n\n".join(filter(None, (*_tables(read_rows(run_dir)), cost_lines(run_dir), files)))


def write_report(run_dir: Path | str, page: bool = False) -> list[Path]:
    """Write `results/table.md`, `results/curve.png` and `results/history.png`; return what was written.

    Figures are left out where matplotlib is missing or there is nothing to draw.

    Args:
        page: write `results/page.html` (5 MB), too: the best checkpoint's test rows with a slider. Left out without
            plotly.

    Raises:
        ConfigError: as `summarise`.
    """
    run_dir = Path(run_dir)
    rows = read_rows(run_dir)
    table = run_dir / RESULTS_DIR / TABLE
    atomic_write_text(table, markdown_table(rows) + "\n")
    figures = trade_off_png(rows, run_dir / RESULTS_DIR / CURVE), history_png(run_dir)
    return [table, *filter(None, (*figures, _write_page(run_dir, rows) if page else None))]


def _write_page(run_dir: Path, rows: list[Row]) -> Path | None:
    best = [row for row in rows if (row.split, row.checkpoint) == ("test", "best")]
    fields = comparison_groups(best, costs_below(run_dir))
    return write_page(fields, run_dir / RESULTS_DIR / PAGE) if fields and find_spec("plotly") else None


def _tables(rows: list[Row]) -> list[str]:
    """The best checkpoint's table last, where a terminal shows it; validation only where there is no test yet."""
    split = "test" if any(row.split == "test" for row in rows) else "val"
    found = [
        [row for row in rows if (row.split, row.checkpoint) == (split, which)] for which in ("live", "last", "best")
    ]
    last, best = (_outcome(group) for group in found[1:])
    if last == best and best:  # one checkpoint is both
        found[1] = []
    return [trade_off_table(group) for group in found if group] or [trade_off_table(rows)]


def _outcome(rows: list[Row]) -> set[Row]:
    """The rows, whatever the name of their checkpoint."""
    return {replace(row, checkpoint="best", wall_seconds=0.0) for row in rows}


def _files(run_dir: Path) -> list[tuple[str, Path]]:
    found = part_files(run_dir)
    folders = sorted({part.parent for part in found})
    rows = [("rows", folders[0] if len(folders) == 1 else run_dir)] if found else []
    results = run_dir / RESULTS_DIR
    others = (
        ("table", results / TABLE),
        ("curve", results / CURVE),
        ("page", results / PAGE),
        ("history", run_dir / HISTORY_FILE),
        ("epochs", results / HISTORY_PNG),
    )
    return rows + [(what, path) for what, path in others if path.exists()]
