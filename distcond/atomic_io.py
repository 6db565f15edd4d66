"""Atomic writes (under a hidden name, then renamed), JSON files, locks, and folders that must not be created again."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from distcond.disk_space import name_full_disk
from distcond.errors import ConfigError, FolderLost

_log = logging.getLogger(__name__)

#: Folders that `keep_present` guards, with the file that each was when the guard began.
_guarded: dict[Path, tuple[int, int]] = {}
_MISSING = (0, 0)


@contextmanager
def keep_present(folder: Path) -> Iterator[None]:
    """Within the block, nothing in this module creates `folder` again if it is removed or replaced: a write raises.

    Raises:
        FolderLost: on such a write, in place of creating the folder.
    """
    folder = folder.absolute()
    known = folder in _guarded
    _guarded.setdefault(folder, _identity(folder))
    try:
        yield
    finally:
        if not known:
            del _guarded[folder]


def require_present(path: Path) -> None:
    """Check that the guarded folder of `path`, if it is in one, is still there.

    Raises:
        FolderLost: it was removed, renamed or replaced.
    """
    for folder, identity in list(_guarded.items()):
        # A network file system may have shown no folder yet.
        known = identity != _MISSING and path.absolute().is_relative_to(folder)
        if known and _identity(folder) != identity:
            raise FolderLost(f"{folder} is not there any more: it was removed, renamed or replaced")


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, but none that `keep_present` guards.

    Raises:
        FolderLost: the guarded folder is gone.
    """
    require_present(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except FileNotFoundError:
        return _MISSING
    return found.st_dev, found.st_ino


@contextmanager
def atomic_write(path: Path, needed: int = 0) -> Iterator[Path]:
    """Yield a hidden temporary path to write to; it is renamed to `path` if the block ends without an exception.

    Missing folders are created. A process killed within the block leaves `path` unchanged; its temporary file is
    removed by the next writer of the same file on the same machine.

    Args:
        path: the file.
        needed: its size in bytes, for the message about a full disk; 0 = unknown.

    Raises:
        DiskFull: it does not fit.
    """
    # Random, so that nobody can put a link there beforehand in a directory in which others may write.
    aside = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{aside}.tmp")
    try:
        with name_full_disk(path.parent, needed):
            make_folder(path.parent)
            _remove_leftovers(path)
            yield temporary
            fsync_file(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text`, in UTF-8."""
    content = text.encode()
    with atomic_write(path, len(content)) as temporary:
        temporary.write_bytes(content)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` within the block. The system releases it when the process dies.

    On a file system without locks, logs a warning and continues without: files are renamed into place, so at worst two
    processes do the same work.
    """
    make_folder(path.parent)
    with open_lock(path) as file:
        try:
            _acquire(file.fileno(), path)
        except OSError as error:
            _log.warning("cannot lock %s (%s): several processes may write the same files", path, error)
        yield


def open_lock(path: Path) -> IO[str]:
    """Open a file to lock it. Who may only read its directory cannot open it: his lock would block its owner.

    Raises:
        OSError: it cannot be written, or is a link, which may lead to any file.
    """
    # Writable as other files of the user are, readable by nobody else.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o622)
    entry = os.fstat(descriptor)
    if entry.st_uid == os.geteuid() and entry.st_mode & 0o044:  # of an earlier version
        os.fchmod(descriptor, stat.S_IMODE(entry.st_mode) & ~0o044)
    return open(descriptor, "w")


def fsync_file(path: Path) -> None:
    """Flush a file to disk. Without it, a power cut after a rename could leave a name without content."""
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
    pattern = re.compile(re.escape(f".{path.name}.{socket.gethostname()}-") + r"(\d+)(?:-[0-9a-f]{8})?\.tmp")
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
    """Write a JSON file atomically: a reader sees the old or the new content, never a part."""
    atomic_write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ConfigError: it is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON, or of UTF-8
        raise ConfigError(f"{path}: damaged, not JSON ({error}); restore the file that the run wrote") from error
