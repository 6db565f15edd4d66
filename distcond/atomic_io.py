"""Files that are either whole or absent (written under a hidden name, then renamed), and locks between processes."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distcond.errors import ConfigError

_log = logging.getLogger(__name__)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it becomes `path` when the block ends without an exception.

    The folder is made if it is missing. A process killed inside the block leaves `path` as it was; what it had written
    is removed by the next writer of the same file on the same machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    aside = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        yield aside
        fsync_file(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8 as the whole of `path`."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`: the other processes wait. The system releases it when the holder dies.

    On a file system without locks this goes on without one: files are renamed into place, so the worst case is that
    two processes do the same work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            _acquire(file.fileno(), path)
        except OSError as error:
            _log.warning("no lock on %s (%s): several processes may write the same files", path, error)
        yield


def fsync_file(path: Path) -> None:
    """See that the bytes of a file are there before it is renamed: a power cut could leave a name without them."""
    if path.is_file():
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _acquire(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.info("waiting for another process (%s)", path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _remove_leftovers(path: Path) -> None:
    pattern = re.compile(re.escape(f".{path.name}.{socket.gethostname()}-") + r"(\d+)\.tmp")
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match and not _is_alive(int(match[1])):
            other.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Write aside and rename: a reader sees the old or the new file, never half of one."""
    atomic_write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """The value `write_json` wrote.

    Raises:
        ConfigError: it holds something else.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON, or of UTF-8
        raise ConfigError(f"{path}: damaged, no JSON ({error}); put back the file that the run wrote") from error
