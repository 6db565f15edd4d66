"""Let a run be stopped: SIGTERM unwinds the main thread like Ctrl-C does, so that everything is cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

STATUS = 128 + signal.SIGTERM


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Within the block SIGTERM raises SystemExit(143) in the main thread. A handler that was there before stays.

    Yields:
        A function that puts the handler back in place, for after `ray.init`, which sets its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.getsignal(signal.SIGTERM)
    handler = _stop if before in (signal.SIG_DFL, None) else before

    def arm() -> None:
        signal.signal(signal.SIGTERM, handler)

    arm()
    try:
        yield arm
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def beside(work: Callable[[], T]) -> T:
    """The result of `work`, run in a thread while the main thread waits where a signal handler can raise.

    Inside `ray.get` a `SystemExit` of a handler would lose its status.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, name="launch", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.5)
    if "error" in outcome:
        raise outcome["error"]
    result: T = outcome["result"]
    return result


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    # A second SIGTERM must not interrupt the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(STATUS)
