"""A process that a job starts, tells to stop, and never leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

#: Seconds between two looks.
POLL = 0.2


class Child:
    """A started command, in a process group of its own.

    Args:
        command: its words.
        environment: all its variables.
        out: a file for its output; None = where this process writes.
        deaf: whether SIGUSR2 must not reach it. Some SLURMs send it to every process of a job, and it would end Ray.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], out: Path | None = None, deaf: bool = False
    ) -> None:
        words = ["sh", "-c", 'trap "" USR2; exec "$0" "$@"', *command] if deaf else list(command)
        file: IO[bytes] | None = open(out, "ab") if out else None  # noqa: SIM115  closed below
        self.process = subprocess.Popen(words, env=dict(environment), stdout=file, stderr=file, start_new_session=True)
        if file is not None:
            file.close()

    def status(self) -> int | None:
        """How it ended, negative for a signal; None while it runs.

        Without the lock of Popen: a signal handler asks, too, while the main thread may be holding it.
        """
        if self.process.returncode is not None:
            return self.process.returncode
        found = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def wait(self, seconds: float | None = None) -> int | None:
        """How it ended, None if it has not after so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while (status := self.status()) is None and (end is None or time.monotonic() < end):
            time.sleep(POLL)
        return status

    def tell(self, number: int) -> None:
        """Send it a signal; its own children hear of it from itself."""
        if self.status() is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def end(self, seconds: float = 0.0) -> None:
        """SIGTERM and, for what is left of its group after so many seconds, SIGKILL."""
        if self.status() is None and seconds:
            self.tell(signal.SIGTERM)
            self.wait(seconds)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
