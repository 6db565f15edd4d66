"""Let a run be stopped: a signal asks it to save and end, or unwinds the main thread, so that all is cleaned up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

STATUS = 128 + signal.SIGTERM

#: What asks a run to stop: the polite kill of every scheduler, and what SLURM jobs are told before their time is up.
ASKING = (signal.SIGTERM, signal.SIGUSR2)


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Within the block SIGTERM raises SystemExit(143) in the main thread, and SIGUSR2 SystemExit(140).

    A handler that was there before stays.

    Yields:
        A function that puts the handlers back in place, for after `ray.init`, which sets its own.
    """
    with _handled(_stop) as arm:
        yield arm


@dataclass
class Request:
    """Whether a signal has asked for an end: its number, 0 before."""

    number: int = 0

    def __bool__(self) -> bool:
        return self.number != 0

    @property
    def status(self) -> int:
        """The exit status that says so; another process of the run may have been asked, and this one not."""
        return 128 + (self.number or signal.SIGTERM)


@contextmanager
def asked_to_stop(ask: Callable[[], None], seconds: float) -> Iterator[Request]:
    """Within the block the first SIGTERM or SIGUSR2 only calls `ask`, for the run to end by itself.

    If it has not after `seconds`, or at a second signal, SystemExit is raised in the main thread as in `stoppable`.
    """
    request, alarm = Request(), _Alarm()

    def first(number: int, frame: FrameType | None) -> None:
        if request:
            _stop(request.number, frame)
        request.number = number
        alarm.set(seconds, lambda *_: _stop(number, frame))
        # Neither a reader that has gone nor a full disk may end the run here; then the alarm will.
        with suppress(OSError):
            ask()
        with suppress(OSError):
            name = signal.Signals(number).name
            # Printing could be what the signal has interrupted.
            os.write(2, f"{name}: stopping after a checkpoint, within {seconds:g} s; again to stop at once\n".encode())

    try:
        with _handled(first):
            yield request
    finally:
        alarm.clear()
        for number in ASKING if request else ():
            if signal.getsignal(number) is _stop:  # an outer block of ours, which has cleaning up to do
                signal.signal(number, signal.SIG_IGN)


class _Alarm:
    """An alarm clock that gives back what it took: others may use SIGALRM, too."""

    def __init__(self) -> None:
        self._before: tuple[Any, tuple[float, float]] | None = None

    def set(self, seconds: float, handler: Callable[..., None]) -> None:
        was = signal.signal(signal.SIGALRM, handler)
        self._before = was, signal.setitimer(signal.ITIMER_REAL, seconds)

    def clear(self) -> None:
        if self._before is not None:
            handler, timer = self._before
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler if handler is not None else signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, *timer)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[Callable[[], None]]:
    """Handle `ASKING` within the block, unless somebody else does. Yields a function that does so again."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in ASKING}
    # Nested blocks are our own: the inner one counts.
    ours = [number for number, was in before.items() if was in (signal.SIG_DFL, None, _stop)]

    def arm() -> None:
        for number, was in before.items():
            signal.signal(number, handler if number in ours else was)

    arm()
    try:
        yield arm
    finally:
        for number, was in before.items():
            # While the outer block cleans up, no further signal may interrupt it.
            ending = was is _stop and signal.getsignal(number) is signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN if ending else was if was is not None else signal.SIG_DFL)


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
    # Another signal must not interrupt the cleaning up.
    for asking in ASKING:
        signal.signal(asking, signal.SIG_IGN)
    raise SystemExit(128 + number)
