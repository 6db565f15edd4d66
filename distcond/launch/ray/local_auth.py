"""A local Ray cluster that nobody else can join: a private directory, a new token and environment variables.

Imports neither torch nor Ray.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distcond.private_dir import temporary_private_dir, write_token

#: Ray's directory in the private one. Ray sets its mode to 0777, so the token must not be in it.
RAY_SUBDIR = "r"

#: Limit for the path of that directory: Ray appends `/session_DATE_TIME_PID/sockets/plasma_store`, and the path of a
#: socket has at most 107 bytes.
MAX_PATH_LENGTH = 43

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
    with temporary_private_dir(MAX_PATH_LENGTH - len(f"/{RAY_SUBDIR}")) as folder:
        write_token(folder / "token")
        (folder / RAY_SUBDIR).mkdir()
        yield folder


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
