"""Full disks: one line with the place, the free space and the space needed, in place of the words of a library."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distcond.errors import ConfigError, DiskFull

#: Free bytes below which a disk counts as full.
_FULL = 1 << 20
#: In the errors of writers that do not say why a write failed: torch's, and numpy's.
_SILENT_WRITERS = ("PytorchStreamWriter", "inline_container", "requested and")


@contextmanager
def name_full_disk(folder: Path, needed: int = 0) -> Iterator[None]:
    """Within the block, turn the error of a full disk into a DiskFull.

    Args:
        folder: in which the block writes.
        needed: bytes that it writes; 0 = unknown.

    Raises:
        DiskFull: in place of another error.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = as_disk_full(error, folder, needed)
        if full is None or full is error:
            raise
        raise full from error


def as_disk_full(error: Exception, folder: Path, needed: int = 0) -> DiskFull | None:
    """The error as a DiskFull with the free space, if it comes from a full disk; otherwise None.

    Args:
        error: of a write. torch reports a full disk only as a failed writer.
        folder: in which the file was written, if the error names no file.
        needed: bytes to write; 0 = unknown.
    """
    if isinstance(error, DiskFull):
        return error
    if isinstance(error, ConfigError):
        return None
    full = next((e for e in _chain(error) if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT)), None)
    if full is not None and isinstance(full.filename, str | bytes):
        folder = Path(os.fsdecode(full.filename)).parent
    try:
        usage = shutil.disk_usage(_existing(folder))
    except OSError:
        return None
    silent = any(name in str(e) for e in _chain(error) for name in _SILENT_WRITERS) and usage.free < max(_FULL, needed)
    if full is None and not silent:
        return None
    free, total = (f"{size / 1e6:.3g} MB" for size in (usage.free, usage.total))
    # A failed write may name no file: then another disk may be full, or a quota reached.
    known = usage.free < max(_FULL, needed) or full is None or full.filename is not None
    where = "disk full:" if known else "a disk is full or a quota reached; on that of"
    need = f", {needed / 1e6:.3g} MB needed" if needed else ""
    found = DiskFull(f"{where} {folder}: {free} free of {total}{need}; free some space and run the same command again")
    found.filename = str(folder)
    return found


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next((path for path in (folder, *folder.parents) if path.exists()), folder)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes: torch's writer raises another error while it is closed."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
