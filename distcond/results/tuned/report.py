"""The report of a sweep: text, a table, PNGs and one page, in SWEEP_DIR/report."""

from __future__ import annotations

from pathlib import Path

from distcond.aside import write_text
from distcond.errors import ConfigError
from distcond.results.canvas import log
from distcond.results.tuned.figures import write_figures
from distcond.results.tuned.importance import importance
from distcond.results.tuned.page import write_page
from distcond.results.tuned.read import read_sweep
from distcond.results.tuned.words import commands, confirmed, failures, heading, importance_text, table

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
    write_text(folder / "table.md", said + "\n")
    files = [folder / "table.md", *write_figures(sweep, folder, found)]
    try:
        files.append(write_page(sweep, folder / "page.html", found))
    except ConfigError as error:
        log.warning(f"no page: {error}")
    return "\n".join([said, "", *(f"written: {file}" for file in files)])
