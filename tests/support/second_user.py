"""A second, unprivileged user of this machine: a number without an account. Needs root.

second_user.do(lambda: path.write_text("mine"))          # in a fork, milliseconds
with second_user.start([sys.executable, ...]) as process: ...
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from support.forked import fork, status
from support.processes import Process
from support.processes import start as start_process

#: The number of the second user and of his group.
NUMBER = 54321

_ROOT = Path(__file__).parents[2]

#: Shows what Python needs below a directory that the user cannot enter, such as root's home, and becomes the user.
_BECOME = """\
user=$1 hidden=$2; shift 2
if [ -n "$hidden" ]; then
    kept=$(mktemp -d); mount -t tmpfs none "$kept"
    while [ "$1" != -- ]; do
        mkdir -p "$kept$1" && mount --bind "$1" "$kept$1" && shown="$shown $1" && shift
    done
    mount -t tmpfs -o mode=755 none "$hidden"
    for one in $shown; do mkdir -p "$one" && mount --bind "$kept$one" "$one"; done
    umount -R -l "$kept" && rmdir "$kept"
fi
while [ "$1" != -- ]; do shift; done; shift
exec setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
"""


def do(action: Callable[[], object]) -> str:
    """Call `action`, which uses files and sockets only, as the second user in a fork. The name of what it raised."""
    reader, writer = os.pipe()
    child = fork(_act, action, writer)
    os.close(writer)
    with open(reader) as answer:
        raised = answer.read()
    assert status(child) == 0, raised
    return raised


def start(argv: Sequence[str | Path], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
    """Start a command as the second user; Python, its packages and the checkout are where they are for root."""
    needed = [sys.base_prefix, sys.prefix, str(_ROOT)]
    hidden = next((f"/{one.split('/')[1]}" for one in needed if not _is_reachable(Path(one))), "")
    below = [one for one in needed if hidden and one.startswith(hidden)]
    become = ["unshare", "--mount", "sh", "-ec", _BECOME, "sh", str(NUMBER), hidden, *below, "--"]
    variables = {**os.environ, "HOME": "/nonexistent"} if env is None else env
    return start_process([*become, *argv], env=variables, cwd=cwd)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory of this user that every user may enter and read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="d2-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def shared_path() -> Iterator[Path]:
    """A sticky directory in which every user may write, like /tmp."""
    with tempfile.TemporaryDirectory(prefix="d2-", dir="/tmp") as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


def why_none() -> str:
    """Why this process cannot act as a second user; "" if it can."""
    return "" if os.geteuid() == 0 else "only root can act as a second user"


def _act(action: Callable[[], object], writer: int) -> None:
    os.setgroups([])
    os.setgid(NUMBER)
    os.setuid(NUMBER)
    try:
        action()
    except BaseException as error:
        os.write(writer, type(error).__name__.encode())


def _is_reachable(path: Path) -> bool:
    return all(one.stat().st_mode & 0o001 for one in (path, *path.parents))
