"""Work that takes some ranks longer than others, such as sending a file: nobody is taken for dead meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from distcond.engine.world import World

T = TypeVar("T")

#: Seconds between two words of a rank that is still at it.
PAUSE = 1.0


def together(world: World, work: Callable[[], T]) -> T:
    """The result of `work`, which every rank calls at the same place; back once all ranks have done theirs.

    The work is done in a thread, while the ranks keep meeting in small reductions: a collective that they went into
    when they are done would give up on a slow one after `launch.timeout`. It still gives up on a rank that is gone.

    Raises:
        Exception: what this rank's work raised, at once; the others then miss this rank.
    """
    if world.size == 1:
        return work()
    done: Future[T] = Future()
    thread = threading.Thread(target=_into, args=(done, work), name="together", daemon=True)
    thread.start()
    busy = True
    while busy:
        thread.join(PAUSE)
        if done.done():
            done.result()
        busy = bool(world.largest([float(not done.done())])[0])
    return done.result()


def _into(done: Future[T], work: Callable[[], T]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)
