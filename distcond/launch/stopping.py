"""Stops a run: signal handlers, the stop file that carries the request to all workers, and `RunStopped`.

The first SIGTERM or SIGUSR2 requests a stop: the run saves a checkpoint and ends (`StopRequested` in its workers,
`RunStopped` in its driver). The second, or the end of the grace period, raises SystemExit in the main thread, so that
everything is cleaned up.

The stop file exists from the start and is polled by reading: on a network file system a change of a file is visible
soon, while a new file may be invisible for a minute. It names the start that it is meant for, since it may stay behind
on a machine that has no part in the next start.
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
from distcond.errors import StopRequested
from distcond.run_layout import STOP_FILE
from distcond.runs.checkpoint import latest, step_of
from distcond.runs.remote import RemoteRun
from distcond.runs.run_dir import RunDir

T = TypeVar("T")

#: Signals that request a stop: SIGTERM of schedulers, and SIGUSR2, which SLURM sends before a job's time limit.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)

SIGTERM_STATUS = 128 + signal.SIGTERM

#: Content of the stop file without a request.
_NO_REQUEST = "go on\n"

#: Seconds between two looks for a request to forward to a URI.
POLL_SECONDS = 0.5


class RunStopped(StopRequested):
    """The run was asked to stop and has saved a checkpoint. Raised by the driver.

    Args:
        where: one line: where the run stopped.
        status: exit status of the command.
    """

    def __init__(self, where: str, status: int) -> None:
        super().__init__(where)
        self.status = status


@dataclass
class StopSignal:
    """The signal that requested a stop, 0 for none."""

    number: int = 0

    def __bool__(self) -> bool:
        return self.number != 0

    @property
    def status(self) -> int:
        """The exit status: 128 + signal; SIGTERM's if another process of the run got the signal."""
        return 128 + (self.number or signal.SIGTERM)


@contextmanager
def graceful_stop(request: Callable[[], None], seconds: float) -> Iterator[StopSignal]:
    """Within the block, the first SIGTERM or SIGUSR2 calls `request`, and the run has `seconds` to end by itself.

    After that, or at a second signal, SystemExit is raised in the main thread as in `exit_on_stop_signal`.

    Args:
        request: passes the request on; runs in a signal handler.
        seconds: grace period (`launch.grace`).
    """
    received, alarm = StopSignal(), _Alarm()

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            _exit_at_once(received.number, frame)
        received.number = number
        alarm.set(seconds, lambda *_: _exit_at_once(number, frame))
        # Neither a closed pipe nor a full disk may end the run here. If the request is lost, the alarm ends it.
        with suppress(OSError):
            request()
        with suppress(OSError):
            name = signal.Signals(number).name
            # os.write, since the signal may have interrupted a print.
            os.write(2, f"{name}: stopping after a checkpoint, within {seconds:g} s; again to stop at once\n".encode())

    try:
        with _signals_handled(handle):
            yield received
    finally:
        alarm.clear()
        for number in STOP_SIGNALS if received else ():
            if signal.getsignal(number) is _exit_at_once:  # of an outer block of ours, which still has to clean up
                signal.signal(number, signal.SIG_IGN)


@contextmanager
def exit_on_stop_signal() -> Iterator[Callable[[], None]]:
    """Within the block, SIGTERM raises SystemExit(143) and SIGUSR2 SystemExit(140) in the main thread.

    Handlers that others have set are kept.

    Yields:
        A function that sets the handlers again, for after `ray.init`, which sets its own.
    """
    with _signals_handled(_exit_at_once) as set_handlers:
        yield set_handlers


@contextmanager
def _signals_handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[Callable[[], None]]:
    """Handle `STOP_SIGNALS` within the block, unless others do. Yields a function that sets the handlers again."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    # Of nested blocks of ours the inner one counts.
    ours = [number for number, was in before.items() if was in (signal.SIG_DFL, None, _exit_at_once)]

    def set_handlers() -> None:
        for number, was in before.items():
            signal.signal(number, handler if number in ours else was)

    set_handlers()
    try:
        yield set_handlers
    finally:
        for number, was in before.items():
            # No further signal may interrupt the outer block while it cleans up.
            cleaning_up = was is _exit_at_once and signal.getsignal(number) is signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN if cleaning_up else was if was is not None else signal.SIG_DFL)


def _exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    for other in STOP_SIGNALS:  # another signal must not interrupt the cleanup
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


class _Alarm:
    """SIGALRM for a while. Restores the handler and timer of others."""

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


def run_in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread and return its result, while the main thread waits where a signal handler can raise.

    Within `ray.get`, the SystemExit of a handler would lose its status.
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


def clear_stop_request(run_path: Path) -> None:
    """Write a stop file without a request."""
    atomic_write_text(run_path / STOP_FILE, _NO_REQUEST)


def request_stop(run_path: Path, start: str) -> None:
    """Ask the workers of one start of the run to save a checkpoint and end. `start` is any text unique to the start."""
    atomic_write_text(run_path / STOP_FILE, _stop_line(start))


def stop_requested(run_path: Path, start: str) -> bool:
    """Whether this start was asked to stop; False if the file cannot be read at the moment."""
    with suppress(OSError):
        return (run_path / STOP_FILE).read_text() == _stop_line(start)
    return False


@contextmanager
def forward_stop_request(remote: RemoteRun | None, run_path: Path, start: str) -> Iterator[None]:
    """Within the block, upload a request to stop to the run's URI, for workers on other machines."""
    over = threading.Event()
    if remote is not None:
        args = (remote, run_path, start, over)
        threading.Thread(target=_forward, args=args, name="forward-stop-request", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _forward(remote: RemoteRun, run_path: Path, start: str, over: threading.Event) -> None:
    # In a thread, since `request_stop` runs in a signal handler, which must not wait for a store.
    while not over.wait(POLL_SECONDS):
        if stop_requested(run_path, start):
            with suppress(OSError):
                remote.store.put(run_path / STOP_FILE, STOP_FILE)
                return


def _stop_line(start: str) -> str:
    return f"stop {start}\n"


def describe_last_checkpoint(run_path: Path) -> str:
    """Where a stopped run resumes, as a phrase: `checkpoint after epoch 3`, `checkpoint in epoch 4, after step 120`."""
    if not run_path.is_dir():
        return f"{run_path} is not reachable, nor is the last checkpoint"
    checkpoint = latest(RunDir(run_path).checkpoints)
    if checkpoint is None:
        return "before the first checkpoint"
    at = step_of(checkpoint)
    if at.step:
        return f"checkpoint in epoch {at.epoch + 1}, after step {at.step}"
    return f"checkpoint after epoch {at.epoch}"
