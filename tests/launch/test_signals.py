"""Stop signals: the first requests a stop, the second exits, and handlers are restored."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from distcond.launch.stopping import exit_on_stop_signal, graceful_stop
from support.waiting import wait_until


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Checks that handlers and the alarm are restored."""
    numbers = (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers], signal.getitimer(signal.ITIMER_REAL)[0] > 0
    yield
    assert ([signal.getsignal(n) for n in numbers], signal.getitimer(signal.ITIMER_REAL)[0] > 0) == before


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_first_signal_requests_a_stop(number: int) -> None:
    asked: list[int] = []
    with graceful_stop(lambda: asked.append(1), 60) as request:
        assert not request
        send(number)
        assert request
    assert asked == [1]
    assert request.status == 128 + number


def test_second_signal_exits() -> None:
    def run() -> None:
        with graceful_stop(lambda: None, 60):
            send()
            send(signal.SIGUSR2)

    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 128 + signal.SIGTERM


def test_end_of_grace_period_exits() -> None:
    def run() -> None:
        with graceful_stop(lambda: None, 0.01):
            send(signal.SIGUSR2)
            while True:
                pass

    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 128 + signal.SIGUSR2


def refuse() -> None:
    raise OSError("the disk is full")


@pytest.mark.parametrize("ask", [lambda: None, refuse])
def test_closed_pipe_or_full_disk_ends_no_run(ask: Callable[[], None]) -> None:
    kept, (reader, writer) = os.dup(2), os.pipe()
    os.close(reader)
    os.dup2(writer, 2)
    try:
        with graceful_stop(ask, 60) as request:
            send()
            assert request
    finally:
        os.dup2(kept, 2)
        os.close(writer)
        os.close(kept)


@pytest.mark.parametrize("signals", [1, 2])
def test_outer_cleanup_is_not_interrupted(signals: int) -> None:
    cleaned: list[int] = []

    def run() -> None:
        with exit_on_stop_signal():
            try:
                with graceful_stop(lambda: None, 60):
                    for _ in range(signals):
                        send()
            finally:
                send()
                cleaned.append(1)

    if signals == 1:
        run()
    else:
        with pytest.raises(SystemExit):
            run()
    assert cleaned == [1]


def test_handlers_of_others_are_kept() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with graceful_stop(lambda: None, 60) as request:
            send()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert not request


def test_alarms_of_others_are_kept() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    timer = signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with graceful_stop(lambda: None, 60):
            send()
        wait_until(lambda: rung, "the alarm")
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
