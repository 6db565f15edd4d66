"""Stop a run: signal handlers, the stop file that carries the request to all workers, and where the run stopped.

The first SIGTERM or SIGUSR2 asks the run to save a checkpoint and end; the second, or the end of the grace period,
raises SystemExit in the main thread, so that everything is cleaned up.
The stop file exists from the start and is read anew each time: a network file system then shows a change soon, while
it may hide a new file for a minute. Its text names the start of the run that is meant: on a machine that has no part
in the next start it stays.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from distcond.atomic_io import atomic_write_text
from distcond.run_layout import STOP_FILE
from distcond.runs.checkpoint import latest, step_of
from distcond.runs.remote import RemoteRun
from distcond.runs.run_dir import RunDir

T = TypeVar("T")

SIGTERM_STATUS = 128 + signal.SIGTERM

#: What asks a run to stop: the polite kill of every scheduler, and what SLURM jobs are told before their time is up.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


@contextmanager
def exit_on_stop_signal() -> Iterator[Callable[[], None]]:
    """Within the block SIGTERM raises SystemExit(143) in the main thread, and SIGUSR2 SystemExit(140).

    A handler that was there before stays.

    Yields:
        A function that puts the handlers back in place, for after `ray.init`, which sets its own.
    """
    with _handled(_exit_at_once) as arm:
        yield arm


@dataclass
class StopSignal:
    """Whether a signal has asked for an end: its number, 0 before."""

    number: int = 0

    def __bool__(self) -> bool:
        return self.number != 0

    @property
    def status(self) -> int:
        """The exit status that says so; another process of the run may have been asked, and this one not."""
        return 128 + (self.number or signal.SIGTERM)


@contextmanager
def graceful_stop(ask: Callable[[], None], seconds: float) -> Iterator[StopSignal]:
    """Within the block the first SIGTERM or SIGUSR2 only calls `request_stop`, for the run to end by itself.

    If it has not after `seconds`, or at a second signal, SystemExit is raised in the main thread, as in
    `exit_on_stop_signal`.
    """
    request, alarm = StopSignal(), _Alarm()

    def first(number: int, frame: FrameType | None) -> None:
        if request:
            _exit_at_once(request.number, frame)
        request.number = number
        alarm.set(seconds, lambda *_: _exit_at_once(number, frame))
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
        for number in STOP_SIGNALS if request else ():
            if signal.getsignal(number) is _exit_at_once:  # an outer block of ours, which has cleaning up to do
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
    """Handle `STOP_SIGNALS` within the block, unless somebody else does. Yields a function that does so again."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    # Nested blocks are our own: the inner one counts.
    ours = [number for number, was in before.items() if was in (signal.SIG_DFL, None, _exit_at_once)]

    def arm() -> None:
        for number, was in before.items():
            signal.signal(number, handler if number in ours else was)

    arm()
    try:
        yield arm
    finally:
        for number, was in before.items():
            # While the outer block cleans up, no further signal may interrupt it.
            ending = was is _exit_at_once and signal.getsignal(number) is signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN if ending else was if was is not None else signal.SIG_DFL)


def run_in_thread(work: Callable[[], T]) -> T:
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


def _exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    # Another signal must not interrupt the cleaning up.
    for asking in STOP_SIGNALS:
        signal.signal(asking, signal.SIG_IGN)
    raise SystemExit(128 + number)


_NO_REQUEST = "go on\n"

#: Seconds between two looks whether there is a wish to pass on.
POLL_SECONDS = 0.5


def clear_stop_request(run_path: Path) -> None:
    """Nobody asks any more."""
    atomic_write_text(run_path / STOP_FILE, _NO_REQUEST)


def request_stop(run_path: Path, start: str) -> None:
    """Ask the workers of a start of the run, named by any word of its own, to save where they are and to end."""
    atomic_write_text(run_path / STOP_FILE, _stop_line(start))


def stop_requested(run_path: Path, start: str) -> bool:
    """Whether somebody asks; no, if the file cannot be read now."""
    with suppress(OSError):
        return (run_path / STOP_FILE).read_text() == _stop_line(start)
    return False


@contextmanager
def forward_stop_request(home: RemoteRun | None, run_path: Path, start: str) -> Iterator[None]:
    """Within the block what `request_stop` says is put at the run's home, too: there workers on other machines look."""
    over = threading.Event()
    if home is not None:
        threading.Thread(target=_forward, args=(home, run_path, start, over), name="wish", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _forward(home: RemoteRun, run_path: Path, start: str, over: threading.Event) -> None:
    # Not where it is asked: that is in a signal handler, which may not wait for a store.
    while not over.wait(POLL_SECONDS):
        if stop_requested(run_path, start):
            with suppress(OSError):
                home.store.put(run_path / STOP_FILE, STOP_FILE)
                return


def _stop_line(start: str) -> str:
    return f"stop {start}\n"


def describe_last_checkpoint(run_path: Path) -> str:
    """`checkpoint after epoch 3`, `checkpoint in epoch 4, after its step 120`, or that none is there or to be seen."""
    if not run_path.is_dir():
        return f"{run_path} is away, and with it the last checkpoint"
    checkpoint = latest(RunDir(run_path).checkpoints)
    if checkpoint is None:
        return "before the first checkpoint"
    moment = step_of(checkpoint)
    if moment.step:
        return f"checkpoint in epoch {moment.epoch + 1}, after its step {moment.step}"
    return f"checkpoint after epoch {moment.epoch}"
