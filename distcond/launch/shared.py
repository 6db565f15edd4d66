"""Is the run directory the same one on every node? A word that the driver writes there is read by every worker."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distcond.aside import write_text
from distcond.errors import ConfigError

FILE = ".shared"

#: Seconds until a network file system shows a new file to the other nodes.
PATIENCE = 10.0


@contextmanager
def marked(run_path: Path) -> Iterator[str]:
    """Within the block `run_path` holds a word of 32 letters that no other directory holds.

    Raises:
        ConfigError: it cannot be written.
    """
    word = secrets.token_hex(16)
    try:
        write_text(run_path / FILE, word)
    except OSError as error:
        raise ConfigError(f"run_root: cannot write {run_path} ({error.strerror}); set run_root=DIR") from error
    try:
        yield word
    finally:
        with suppress(OSError):  # a storage that is away is not the end of a run
            (run_path / FILE).unlink(missing_ok=True)


def is_shared(run_path: Path, word: str, patience: float = PATIENCE) -> bool:
    """Whether this node sees the directory that was marked with `word`."""
    deadline = time.monotonic() + patience
    while word_of(run_path) != word:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def word_of(run_path: Path) -> str:
    """The word that marks a run directory now; "" if none does: no driver is at work there."""
    try:
        return (run_path / FILE).read_text()
    except OSError:
        return ""
