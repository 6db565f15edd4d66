"""Work that takes some ranks longer than others, such as sending a file: nobody is taken for dead meanwhile."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from distcond.engine.world import World
from distcond.storage.store import StorageError

T = TypeVar("T")

#: Seconds between two words of a rank that is still at it.
PAUSE = 1.0


def together(world: World, work: Callable[[], T], limit: float = math.inf) -> T:
    """The result of `work`, which every rank calls at the same place; back once all ranks have done theirs.

    The work is done in a thread, while the ranks keep meeting in small reductions: a collective that they went into
    when they are done would give up on a slow one after `launch.timeout`. It still gives up on a rank that is gone.

    Raises:
        Exception: what this rank's work raised, at once; the others then miss this rank.
        StorageError: it took longer than `limit` seconds; it is left behind, and keeps no process alive.
    """
    if world.size == 1 and limit == math.inf:
        return work()
    deadline = time.monotonic() + limit
    done: Future[T] = Future()
    thread = threading.Thread(target=_into, args=(done, work), name="together", daemon=True)
    thread.start()
    busy = True
    while busy:
        thread.join(PAUSE)
        if done.done():
            done.result()
        elif time.monotonic() > deadline:
            raise StorageError(f"storage: no end of it within {limit:g} s; see whether it answers at all")
        busy = bool(world.largest([float(not done.done())])[0])
    return done.result()


def _into(done: Future[T], work: Callable[[], T]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)
