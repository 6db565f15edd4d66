"""Paths that a user names and that cannot be used: which setting named them, in one line."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distcond.errors import ConfigError, DiskFull

#: What a file system says of a place that the user has to change.
BARRED = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT,
    errno.ELOOP, errno.ENAMETOOLONG,
})  # fmt: skip

#: Bytes that are no room for anything.
_LITTLE = 1 << 20

_NO_HOME = "home directory"  # what pathlib says where HOME is not set and the user has no entry


@contextmanager
def name_setting_in_errors(settings: Mapping[str, str]) -> Iterator[None]:
    """Name the setting behind a place that cannot be read or written in the block.

    Args:
        settings: {setting: the path it has}; of several the one whose path the error is about.

    Raises:
        ConfigError: in place of an error about one of these paths.
    """
    try:
        yield
    except OSError as error:
        setting = _setting_of(error, settings)
        if setting is None:
            raise
        raise ConfigError(
            f"{setting}={settings[setting]}: {describe_os_error(error)}; set {setting} to another place"
        ) from error
    except RuntimeError as error:
        home = [name for name, path in settings.items() if path.startswith("~")]
        if _NO_HOME not in str(error) or not home:
            raise
        raise ConfigError(f"{home[0]}={settings[home[0]]}: no home directory; set {home[0]} to a full path") from error


def as_disk_full(error: Exception, folder: Path) -> DiskFull | None:
    """The error as one of a full disk, with its numbers; where it names no file, one below `folder` was written.

    torch says of it only that its writer failed.
    """
    if isinstance(error, DiskFull):
        return error
    if isinstance(error, ConfigError):
        return None
    full = next((e for e in _chain(error) if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT)), None)
    if full is not None and isinstance(full.filename, str | bytes):
        folder = Path(os.fsdecode(full.filename)).parent
    try:
        room = shutil.disk_usage(folder)
    except OSError:
        return None
    torchs = any(word in str(error) for word in ("PytorchStreamWriter", "inline_container")) and room.free < _LITTLE
    if full is None and not torchs:
        return None
    free, total = (f"{size / 1e6:.3g} MB" for size in (room.free, room.total))
    # A write that fails does not say of which file: another disk may be the full one, or a quota.
    known = room.free < _LITTLE or full is None or full.filename is not None
    where = "no room on the disk of" if known else "a disk is full; on that of"
    return DiskFull(f"{where} {folder}: {free} free of {total}; make room, and the same command goes on")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came of: torch's writer fails once more on its way out."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def describe_os_error(error: OSError) -> str:
    """What is the matter with which path."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {error.filename or 'a file'} is full ({error.strerror})"
    return f"cannot use {error.filename} ({error.strerror})"


def describe_path_error(error: Exception) -> str | None:
    """One line about an error that is a place's, of which no setting is known; None about any other."""
    if isinstance(error, OSError) and error.errno in BARRED and error.filename is not None:
        return describe_os_error(error)
    if isinstance(error, RuntimeError) and _NO_HOME in str(error):
        return "a path begins with ~ and there is no home directory (HOME); give full paths, data.cache_dir among them"
    return None


def can_write(folder: Path) -> bool:
    """Whether a file can be made in `folder`, found out by making one: permissions alone do not say."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def require_target(setting: str, path: Path) -> Path:
    """`path`, if a file can be written there.

    Raises:
        ConfigError: its folder is missing or cannot be written, or it is a folder itself.
    """
    folder = path.parent
    if not folder.is_dir():
        raise ConfigError(f"{setting}={path}: there is no folder {folder}; make it, or name a file in another one")
    if path.is_dir():
        raise ConfigError(f"{setting}={path}: a folder; name a file, such as {path / setting}.{setting}")
    if not can_write(folder):
        raise ConfigError(f"{setting}={path}: cannot write in {folder}; name a file in another folder")
    return path


def _setting_of(error: OSError, settings: Mapping[str, str]) -> str | None:
    if error.errno not in BARRED or error.filename is None:
        return None
    at, found = Path(os.fsdecode(error.filename)).absolute(), dict[str, int]()
    for setting, text in settings.items():
        path = Path(os.path.expanduser(text)).absolute() if text else None
        # A folder above it where that could not be made.
        if path is not None and (at.is_relative_to(path) or path.is_relative_to(at)):
            found[setting] = len(path.parts)
    return max(found, key=lambda setting: found[setting]) if found else None
