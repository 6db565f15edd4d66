"""Checks that no other user of this machine stands between a driver and its Ray cluster.

Ray makes everything below its temporary directory writable by every user: the packages of submitted jobs, the sockets
of workers, and the file in which it notes the address of the cluster that was started last. A cluster is safe if that
directory is in one that only its user can enter; see docs/security.md.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from distcond.errors import ConfigError
from distcond.private_dir import why_open, why_readable

_log = logging.getLogger(__name__)

_REMEDY = "start it with --temp-dir below a directory of mode 0700, see docs/security.md"


def check_token_file() -> None:
    """Check the token file that Ray will read, if it is there; warn if others may read it.

    Raises:
        ConfigError: others may write to it or replace it: it would be their token.
    """
    path = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    if not path or os.environ.get("RAY_AUTH_TOKEN") or not Path(path).expanduser().is_file():
        return
    file = Path(path).expanduser()
    if reason := why_open(file):
        raise ConfigError(f"RAY_AUTH_TOKEN_PATH={path}: {reason}; valid: a file that only you may write (chmod 600)")
    if reason := why_readable(file):
        _log.warning("RAY_AUTH_TOKEN_PATH: %s: whoever has the token can run code as you; chmod 600", reason)


def check_found_address(address: str) -> None:
    """Check that a cluster that RAY_ADDRESS=auto has found has a node of this user, or of root, on this machine.

    Ray takes the word of any process that is called like one of its own, and of a file that all users may write.

    Raises:
        ConfigError: it has none.
    """
    users = node_users(address)
    if not users & {os.geteuid(), 0}:
        whose = f"which belongs to user {min(users)}" if users else "of which no process runs here"
        problem = f"Ray has found {address}, {whose}"
        raise ConfigError(f"RAY_ADDRESS=auto: {problem}; set HOST:PORT of your own cluster, or unset RAY_ADDRESS")


def node_users(address: str) -> set[int]:
    """The users of the processes on this machine that belong to a node of the cluster at HOST:PORT."""
    users, words = set(), {f"--gcs-address={address}".encode(), f"--gcs_address={address}".encode()}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            if words & set((process / "cmdline").read_bytes().split(b"\0")):
                status = (process / "status").read_text()  # a process may make its folder look like root's
                users |= {int(line.split()[2]) for line in status.splitlines() if line.startswith("Uid:")}
    return users


def warn_if_open(session: Path) -> None:
    """Warn if other users of this machine may change what is in the directory of a cluster's session."""
    if session.exists() and (reason := why_open(session)):
        _log.warning("this Ray cluster is open to other users of the machine: %s; %s", reason, _REMEDY)
