"""How a driver asks the workers of a run to stop, wherever they are: by a word in a file of the run directory.

The file is there from the start and is read anew each time: a network file system then shows a change soon, while it
may hide for a minute that a new file has come.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from distcond.aside import write_text

FILE = "stop.txt"
_STOP, _GO_ON = "stop\n", "go on\n"


def allow(run_path: Path) -> None:
    """Nobody asks any more."""
    write_text(run_path / FILE, _GO_ON)


def ask(run_path: Path) -> None:
    """Ask the workers to save where they are and to end."""
    write_text(run_path / FILE, _STOP)


def asked(run_path: Path) -> bool:
    """Whether somebody asks; no, if the file cannot be read now."""
    with suppress(OSError):
        return (run_path / FILE).read_text() == _STOP
    return False
