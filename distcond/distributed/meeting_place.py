"""Where ranks of one machine meet: a file store in a directory that only their user can enter.

DIR/lock      held by rank 0 while the run goes on
DIR/current   name of the store of the present start
DIR/NAME      the store; a new one for every start, so that no rank reads addresses of an earlier one

The directory has a fixed name, for the ranks have nothing else in common. Rank 0 answers every rank in the store: one
that has joined the store of a start that is over gets no answer, and looks again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from torch._C._distributed_c10d import FileStore

from distcond.atomic_io import atomic_write_text, open_lock
from distcond.distributed.handshake import Patience, answer_ranks, is_answered
from distcond.private_dir import choose_temporary, make_private_dir

#: Seconds between two looks.
_POLL = 0.05

#: How many ranks have left, and the seconds that rank 0 waits for them before it removes the store.
_LEFT, _LEAVING = "left", 5.0

#: Age in seconds from which a directory that nobody holds is removed.
_ABANDONED = 86400.0


@contextmanager
def meeting_place(rank: int, size: int, seconds: float, stop: Callable[[], bool]) -> Iterator[FileStore]:
    """The store of this start of the run that torchrun's variables describe. Collective.

    Raises:
        RuntimeError: not all ranks arrived within `seconds`, or another run has the place.
        StopRequested: `stop` returned True before.
        ConfigError: the directory belongs to another user.
    """
    own = make_private_dir(Path(choose_temporary()) / f"distcond-user-{os.geteuid()}")
    folder = own / _name_of_run()
    patience = Patience(size, time.monotonic() + seconds, stop)
    if rank > 0:
        store = _follow(folder, rank, patience)
        try:
            yield store
        finally:
            with suppress(RuntimeError):
                store.add(_LEFT, 1)
        return
    with _claim(folder, patience):
        _remove_abandoned(folder.parent)
        store = _lead(folder, patience)  # if it fails, ranks that still ask must find the store
        try:
            yield store
            _wait_until_left(store, size - 1)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # other runs meet there
                folder.parent.rmdir()


def _wait_until_left(store: FileStore, ranks: int) -> None:
    end = time.monotonic() + _LEAVING
    while store.add(_LEFT, 0) < ranks and time.monotonic() < end:
        time.sleep(_POLL)


def _name_of_run() -> str:
    """The same in all ranks of a run, and another in every other run that goes on here, in containers too."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "WORLD_SIZE")
    parts = [*(os.environ.get(name, "") for name in names), os.readlink("/proc/self/ns/net")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _lead(folder: Path, patience: Patience) -> FileStore:
    name = f"store-{secrets.token_hex(8)}"
    store = FileStore(str(folder / name), patience.size)
    atomic_write_text(folder / "current", name)
    answer_ranks(store, name, patience)
    return store


def _follow(folder: Path, rank: int, patience: Patience) -> FileStore:
    token = secrets.token_hex(8)
    while True:
        patience.check(problem=f"; rank 0 is not in {folder}: ranks of one machine need the same TMPDIR")
        with suppress(FileNotFoundError):  # rank 0 has yet to come, or is about to leave
            name = (folder / "current").read_text()
            if (folder / name).exists():  # the constructor would make it anew
                store = FileStore(str(folder / name), patience.size)
                if is_answered(store, name, rank, token, patience):
                    return store
        time.sleep(_POLL)


@contextmanager
def _claim(folder: Path, patience: Patience) -> Iterator[None]:
    """Within the block this process is rank 0 of the only run in `folder`."""
    while True:
        make_private_dir(folder)
        with suppress(FileNotFoundError):  # rank 0 of the previous start has removed it just now
            lock = _try_lock(folder)
            if lock is not None:
                break
        patience.check(problem=f": another run on this machine has MASTER_PORT={os.environ.get('MASTER_PORT')}")
        time.sleep(_POLL)
    with lock:
        yield


def _try_lock(folder: Path) -> IO[str] | None:
    """The lock of `folder`; None if another live process has it."""
    lock = open_lock(folder / "lock")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike with flock, forks of the process do not hold it
        if os.path.samestat(os.fstat(lock.fileno()), os.stat(folder / "lock")):
            return lock
    except BlockingIOError:
        pass
    lock.close()
    return None


def _remove_abandoned(parent: Path) -> None:
    """Remove the directories of runs that were killed long ago."""
    for folder in parent.iterdir():
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED and (lock := _try_lock(folder)) is not None:
                with lock:
                    shutil.rmtree(folder, ignore_errors=True)
