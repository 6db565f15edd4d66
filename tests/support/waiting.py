"""Waiting for what happens, never for seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from support.processes import LIMIT


class Ends(Protocol):
    """A process: `support.processes.Process` or a `subprocess.Popen`."""

    def poll(self) -> int | None:
        """The exit status, None while it runs."""


def wait_until(
    condition: Callable[[], Any], what: str, seconds: float = LIMIT, *, process: Ends | None = None, every: float = 0.05
) -> Any:
    """Wait until `condition()` is true, and return what it gave.

    Args:
        condition: looked at every `every` seconds.
        what: names it where it does not come.
        seconds: for how long it is waited for.
        process: what it depends on: once that has ended, it is not waited for any longer.
        every: seconds between two looks.

    Raises:
        AssertionError: it did not come, or the process ended before it did.
    """
    end = time.monotonic() + seconds
    while True:
        ended = process.poll() if process is not None else None
        if found := condition():
            return found
        output = getattr(process, "output", "")
        if ended is not None:
            raise AssertionError(f"{what}: the process ended before, with status {ended}\n{output}")
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:g} s\n{output}")
        time.sleep(every)
