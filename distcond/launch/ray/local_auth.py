"""A local Ray cluster that nobody else can join: a private directory, a new token and environment variables.

Imports neither torch nor Ray.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from distcond.errors import ConfigError

#: Ray's directory in the private one. Ray sets its mode to 0777, so the token must not be in it.
RAY_SUBDIR = "r"

#: Limit for the path of that directory: Ray appends `/session_DATE_TIME_PID/sockets/plasma_store`, and the path of a
#: socket has at most 107 bytes.
MAX_PATH_LENGTH = 43

_PREFIX = "distcond-"

#: A file in the private directory, locked by the process that the directory belongs to.
_OWNER_FILE = "owner"

#: Despite its name, "0" keeps all ports of a local cluster on the loopback interface, on every system.
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def env_vars(values: Mapping[str, str | None]) -> Iterator[None]:
    """Within the block, set each environment variable (None: unset it). The old values are restored after it."""
    before = {name: os.environ.get(name) for name in values}
    _set_env(values)
    try:
        yield
    finally:
        _set_env(before)


@contextmanager
def private_directory() -> Iterator[Path]:
    """A directory of mode 0700 with a file `token` of mode 0600 and an empty directory for Ray.

    It is deleted after the block, as are the directories of processes that were killed before they could.
    """
    parent = _short_parent()
    _remove_abandoned(Path(parent))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        handle = os.open(folder / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        (folder / RAY_SUBDIR).mkdir()
        with open(folder / f".{_OWNER_FILE}", "w") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)  # the system releases it when this process ends
            os.rename(folder / f".{_OWNER_FILE}", folder / _OWNER_FILE)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def local_ray_auth(folder: Path) -> Iterator[None]:
    """Within the block, a cluster that starts requires the token in `folder`, and this process has it.

    Authentication settings in the environment are ignored, and restored after the block.
    """
    settings: dict[str, str | None] = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_AUTH_TOKEN": None,  # it would take precedence over the path
    }
    if "ray" not in sys.modules:  # Ray reads it once, when imported
        settings[_LOOPBACK] = "0"
    try:
        with env_vars(settings):
            reload_ray_auth()
            yield
    finally:
        reload_ray_auth()


def reload_ray_auth() -> None:
    """Make Ray read mode and token from the environment again; it caches them once imported."""
    if "ray" in sys.modules:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


def processes_with_token(token: Path) -> list[int]:
    """IDs of the other processes of the cluster that uses `token`, found by their environment."""
    entry = f"RAY_AUTH_TOKEN_PATH={token}".encode()
    processes = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                processes.append(int(folder.name))
        except OSError:  # ended meanwhile, or another user's
            continue
    return processes


def _set_env(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _short_parent() -> str:
    """The first writable directory for temporary files whose path is short enough for Ray's sockets."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if len(f"{parent}/distcond-xxxxxxxx/{RAY_SUBDIR}") <= MAX_PATH_LENGTH and os.access(parent, os.W_OK | os.X_OK):
            return parent
    raise ConfigError(
        "TMPDIR: Ray needs a writable temporary directory with a path of 20 characters at most, like /tmp"
    )


def _remove_abandoned(parent: Path) -> None:
    for owner in parent.glob(f"{_PREFIX}*/{_OWNER_FILE}"):
        with suppress(OSError):  # another user's, or deleted meanwhile
            if owner.lstat().st_uid != os.getuid():
                continue
            with open(owner) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its owner is alive
                shutil.rmtree(owner.parent, ignore_errors=True)
