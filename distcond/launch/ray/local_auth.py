"""A private directory, a fresh token and the environment variables for a local Ray that nobody else can join.

Free of torch and Ray: jobs of `cluster.slurm` import it.
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


@contextmanager
def env_vars(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set each variable (None: unset it) and put back what was there, however the block ends."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


#: Ray's own directory in the private one. Ray opens it to everybody (mode 0777), so the token must not lie in there.
RAY_SUBDIR = "r"

_PREFIX = "distcond-"

#: Locked by the process that the directory belongs to.
_OWNER = "owner"

#: Of that directory's path: Ray puts `/session_DATE_TIME_PID/sockets/plasma_store` below it, a socket has 107 bytes.
MAX_PATH_LENGTH = 43

#: For Rays started here. It is named for two systems, but on every one it keeps all of Ray's ports on loopback.
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def private_directory() -> Iterator[Path]:
    """A directory of mode 0700 with `token` of mode 0600 and an empty directory for Ray in it; gone after the block.

    Those of processes that were killed before they could remove theirs are removed too.
    """
    parent = _short_parent()
    _remove_abandoned(Path(parent))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        handle = os.open(folder / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        (folder / RAY_SUBDIR).mkdir()
        with open(folder / f".{_OWNER}", "w") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)  # until this process ends, however it does
            os.rename(folder / f".{_OWNER}", folder / _OWNER)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for owner in parent.glob(f"{_PREFIX}*/{_OWNER}"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if owner.lstat().st_uid != os.getuid():
                continue
            with open(owner) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its owner lives
                shutil.rmtree(owner.parent, ignore_errors=True)


@contextmanager
def local_ray_auth(folder: Path) -> Iterator[None]:
    """Within the block a Ray that starts demands the token of `folder`, and this process has it.

    Whatever the environment says about Ray's authentication does not count, and is back after the block.
    """
    settings: dict[str, str | None] = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_AUTH_TOKEN": None,  # it would come before the path
    }
    if "ray" not in sys.modules:  # Ray reads it once
        settings[_LOOPBACK] = "0"
    try:
        with env_vars(settings):
            _reread()
            yield
    finally:
        _reread()


def processes_with_token(token: Path, environments: Path = Path("/proc")) -> list[int]:
    """Processes other than this one that were started with `token`: those of the Ray that it belongs to."""
    wanted, found = f"RAY_AUTH_TOKEN_PATH={token}".encode(), []
    for entry in environments.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def _short_parent() -> str:
    """The first writable parent for temporary files whose path is short enough for Ray's sockets."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if len(f"{parent}/distcond-xxxxxxxx/{RAY_SUBDIR}") <= MAX_PATH_LENGTH and os.access(parent, os.W_OK | os.X_OK):
            return parent
    raise ConfigError(
        "TMPDIR: Ray needs a writable temporary directory with a path of 20 characters at most, like /tmp"
    )


def _reread() -> None:
    """Make Ray look at the environment again, if it was imported: it reads mode and token once."""
    if "ray" in sys.modules:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
