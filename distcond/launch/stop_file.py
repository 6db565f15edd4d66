"""How a driver asks the workers of a run to stop, wherever they are: by a word in a file of the run directory.

The file is there from the start and is read anew each time: a network file system then shows a change soon, while it
may hide for a minute that a new file has come. The word names the start of the run that it is meant for: on a machine
that has no part in the next one it stays.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distcond.aside import write_text
from distcond.engine.home import STOP as FILE
from distcond.engine.home import Home

_GO_ON = "go on\n"

#: Seconds between two looks whether there is a wish to pass on.
LOOK = 0.5


def allow(run_path: Path) -> None:
    """Nobody asks any more."""
    write_text(run_path / FILE, _GO_ON)


def ask(run_path: Path, start: str) -> None:
    """Ask the workers of a start of the run, named by any word of its own, to save where they are and to end."""
    write_text(run_path / FILE, _stop(start))


def asked(run_path: Path, start: str) -> bool:
    """Whether somebody asks; no, if the file cannot be read now."""
    with suppress(OSError):
        return (run_path / FILE).read_text() == _stop(start)
    return False


@contextmanager
def passed_on(home: Home | None, run_path: Path, start: str) -> Iterator[None]:
    """Within the block what `ask` says is put at the run's home, too: there workers on other machines look."""
    over = threading.Event()
    if home is not None:
        threading.Thread(target=_pass_on, args=(home, run_path, start, over), name="wish", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _pass_on(home: Home, run_path: Path, start: str, over: threading.Event) -> None:
    # Not where it is asked: that is in a signal handler, which may not wait for a store.
    while not over.wait(LOOK):
        if asked(run_path, start):
            with suppress(OSError):
                home.store.put(run_path / FILE, FILE)
                return


def _stop(start: str) -> str:
    return f"stop {start}\n"
