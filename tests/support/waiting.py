"""Waits for conditions, never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from support.processes import LIMIT


class Pollable(Protocol):
    """A process: `support.processes.Process` or `subprocess.Popen`."""

    def poll(self) -> int | None:
        """The exit status; None while it runs."""


def wait_until(
    condition: Callable[[], Any],
    what: str,
    seconds: float = LIMIT,
    *,
    process: Pollable | None = None,
    every: float = 0.05,
) -> Any:
    """Wait until `condition()` is true and return its value.

    Args:
        condition: Polled.
        what: Its name in the error.
        seconds: Time limit.
        process: Stop waiting once this process has ended.
        every: Seconds between polls.

    Raises:
        AssertionError: the condition did not become true in time, or before the process ended.
    """
    end = time.monotonic() + seconds
    while True:
        ended = process.poll() if process is not None else None
        if found := condition():
            return found
        output = getattr(process, "output", "")
        if ended is not None:
            raise AssertionError(f"{what}: the process ended first, with status {ended}\n{output}")
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:g} s\n{output}")
        time.sleep(every)
