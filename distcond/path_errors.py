"""Errors about paths that a user set: one line that names the setting."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distcond.errors import ConfigError, DiskFull, FolderLost

#: Errors of a file system that mean the user has to choose another path.
UNUSABLE = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT,
    errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO,
})  # fmt: skip

_NO_HOME = "home directory"  # in pathlib's message if HOME is not set and the user has no passwd entry


@contextmanager
def name_setting_in_errors(settings: Mapping[str, str]) -> Iterator[None]:
    """Within the block, turn errors about a path of one of the settings into errors that name the setting.

    Args:
        settings: {setting: its path}. The one with the closest path is named.

    Raises:
        ConfigError: in place of an OSError about one of these paths.
    """
    try:
        yield
    except OSError as error:
        setting = _setting_of(error, settings)
        if setting is None:
            raise
        reason = describe_os_error(error)
        raise ConfigError(f"{setting}={settings[setting]}: {reason}; set {setting} to another path") from error
    except RuntimeError as error:
        home = [name for name, path in settings.items() if path.startswith("~")]
        if _NO_HOME not in str(error) or not home:
            raise
        raise ConfigError(f"{home[0]}={settings[home[0]]}: no home directory; set {home[0]} to a full path") from error


def describe_os_error(error: OSError) -> str:
    """Which path cannot be used, and why."""
    if isinstance(error, DiskFull):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {error.filename or 'a file'} is full ({error.strerror})"
    return f"cannot use {error.filename} ({error.strerror})"


def describe_path_error(error: Exception) -> str | None:
    """One line for an error about a path whose setting is unknown; None for any other error."""
    if isinstance(error, DiskFull | FolderLost):
        return str(error)
    if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename is not None:
        return describe_os_error(error)
    if isinstance(error, RuntimeError) and _NO_HOME in str(error):
        return "a path begins with ~ but there is no home directory (HOME); set full paths, also of data.cache_dir"
    return None


def can_write(folder: Path) -> bool:
    """Whether a file can be created in `folder`. Tries it, since permissions alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def require_target(setting: str, path: Path) -> Path:
    """Return `path` if a file can be written there.

    Raises:
        ConfigError: its folder is missing or not writable, or it is a folder itself.
    """
    folder = path.parent
    if not folder.is_dir():
        raise ConfigError(f"{setting}={path}: no such folder as {folder}; create it, or name a file in another one")
    if path.is_dir():
        raise ConfigError(f"{setting}={path}: a folder; name a file, such as {path / setting}.{setting}")
    if not can_write(folder):
        raise ConfigError(f"{setting}={path}: cannot write in {folder}; name a file in another folder")
    return path


def _setting_of(error: OSError, settings: Mapping[str, str]) -> str | None:
    if (error.errno not in UNUSABLE and not isinstance(error, DiskFull)) or error.filename is None:
        return None
    failed, depths = Path(os.fsdecode(error.filename)).absolute(), dict[str, int]()
    for setting, text in settings.items():
        path = Path(os.path.expanduser(text)).absolute() if text else None
        # The error may be about a parent that could not be created.
        if path is not None and (failed.is_relative_to(path) or path.is_relative_to(failed)):
            depths[setting] = len(path.parts)
    return max(depths, key=lambda setting: depths[setting]) if depths else None
