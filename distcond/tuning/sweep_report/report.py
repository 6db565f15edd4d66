"""The report of a sweep: text, a table, PNGs and one page, in SWEEP_DIR/report."""

from __future__ import annotations

from pathlib import Path

from distcond.atomic_io import atomic_write_text
from distcond.errors import ConfigError
from distcond.reporting.mpl_style import log
from distcond.tuning.sweep_report.figures import write_figures
from distcond.tuning.sweep_report.importance import importance
from distcond.tuning.sweep_report.page import write_page
from distcond.tuning.sweep_report.read import read_sweep
from distcond.tuning.sweep_report.words import commands, confirmed, failures, heading, importance_text, table

FOLDER = "report"


def report(path: Path | str) -> str:
    """Write everything and return what is printed.

    Raises:
        ConfigError: no sweep there.
    """
    sweep = read_sweep(path)
    found, folder = importance(sweep), sweep.path / FOLDER
    texts = ["\n".join(heading(sweep)), table(sweep), failures(sweep), importance_text(sweep, found), commands(sweep)]
    said = "\n\n".join(filter(None, [*texts, confirmed(sweep)]))
    atomic_write_text(folder / "table.md", said + "\n")
    files = [folder / "table.md", *write_figures(sweep, folder, found)]
    try:
        files.append(write_page(sweep, folder / "page.html", found))
    except ConfigError as error:
        log.warning(f"no page: {error}")
    return "\n".join([said, "", *(f"written: {file}" for file in files)])
