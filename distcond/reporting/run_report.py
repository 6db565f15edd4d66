"""The report of a run or of all runs below a folder: the trade-off as text, Markdown and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from distcond.atomic_io import atomic_write_text
from distcond.reporting.history_plot import HISTORY_PNG, history_png
from distcond.reporting.page import write_page
from distcond.reporting.trade_off_plot import trade_off_png
from distcond.results.comparison import comparison_groups
from distcond.results.cost import cost_lines, costs_of, run_dirs_of
from distcond.results.row import Row, key
from distcond.results.store import part_files, read_rows, read_runs
from distcond.results.tables import markdown_table, trade_off_table
from distcond.run_layout import HISTORY_FILE, RESULTS_DIR

TABLE_FILE, CURVE_FILE, PAGE_FILE = "table.md", "curve.png", "page.html"


def summarise(run_dir: Path | str) -> str:
    """The trade-off table, the cost, and the paths of the results.

    Raises:
        ConfigError: no such folder, or an unreadable result.
    """
    files = "\n".join(f"{name:<9}{path}" for name, path in _files(Path(run_dir)))
    return "\n\n".join(filter(None, (*_tables(read_rows(run_dir)), cost_lines(run_dir), files)))


def write_report(run_dir: Path | str, page: bool = False) -> list[Path]:
    """Write `results/table.md`, `results/curve.png` and `results/history.png`; return the written paths.

    Figures are left out without matplotlib and without data.

    Args:
        run_dir: A run, or a folder of runs.
        page: Also write `results/page.html` (5 MB): the best checkpoint's test rows with a slider. Left out without
            plotly.

    Raises:
        ConfigError: as `summarise`.
    """
    run_dir = Path(run_dir)
    runs = read_runs([run_dir])
    rows = sorted((row for of_run in runs.values() for row in of_run), key=key)
    table = run_dir / RESULTS_DIR / TABLE_FILE
    atomic_write_text(table, markdown_table(rows) + "\n")
    figures = trade_off_png(rows, run_dir / RESULTS_DIR / CURVE_FILE), history_png(run_dir)
    return [table, *filter(None, (*figures, _write_page(run_dir, rows, run_dirs_of(runs)) if page else None))]


def _write_page(run_dir: Path, rows: list[Row], run_dirs: Mapping[str, Path]) -> Path | None:
    best = [row for row in rows if (row.split, row.checkpoint) == ("test", "best")]
    groups = comparison_groups(best, costs_of(run_dirs))
    return write_page(groups, run_dir / RESULTS_DIR / PAGE_FILE) if groups and find_spec("plotly") else None


def _tables(rows: list[Row]) -> list[str]:
    """One table per checkpoint, the best one last (next to the prompt); validation rows only without test rows."""
    split = "test" if any(row.split == "test" for row in rows) else "val"
    live, last, each, best = (
        [row for row in rows if (row.split, row.checkpoint) == (split, which)]
        for which in ("live", "last", "each", "best")
    )
    if best and _without_checkpoint(last) == _without_checkpoint(best):  # the last checkpoint is the best one
        last = []
    return [trade_off_table(group) for group in (live, last, each, best) if group] or [trade_off_table(rows)]


def _without_checkpoint(rows: list[Row]) -> set[Row]:
    """The rows with equal checkpoint names and times, for comparison."""
    return {replace(row, checkpoint="best", wall_seconds=0.0) for row in rows}


def _files(run_dir: Path) -> list[tuple[str, Path]]:
    """Name and path of every result that exists."""
    folders = sorted({part.parent for part in part_files(run_dir)})
    rows = [("rows", folders[0] if len(folders) == 1 else run_dir)] if folders else []
    results = run_dir / RESULTS_DIR
    others = (
        ("table", results / TABLE_FILE),
        ("curve", results / CURVE_FILE),
        ("page", results / PAGE_FILE),
        ("history", run_dir / HISTORY_FILE),
        ("epochs", results / HISTORY_PNG),
    )
    return rows + [(name, path) for name, path in others if path.exists()]
