"""Starts processes for tests: one time limit, all output in one string, nothing left running.

with start([sys.executable, "-m", "distcond.train", ...], cwd=folder) as process:
    wait_until(file.exists, "the first checkpoint", process=process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM, process.output
"""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from support.leftovers import processes_with

#: Seconds that a test waits at most. Below pytest's own timeout, so that the failure shows the output.
LIMIT = 280.0

#: Set for a process and its descendants, to find those that leave its process group, as Ray's processes do.
_MARK = "DISTCOND_TEST_PROCESS"


@dataclass(frozen=True)
class Finished:
    """The exit status of a process (-N for signal N) and the output of it and its children."""

    status: int
    output: str


class Process:
    """A process in its own process group. As a context manager it kills the process and its descendants at the end.

    Args:
        argv: The command.
        cwd: Its working directory; pytest's by default.
        env: Its complete environment; pytest's by default.
        stderr: As for subprocess.Popen; joined with the output by default.
        limit: Time limit of `wait` in seconds.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        stderr: int = subprocess.STDOUT,
        limit: float = LIMIT,
    ) -> None:
        self.argv, self.limit, self._mark = [str(word) for word in argv], limit, secrets.token_hex(8)
        self._popen = subprocess.Popen(
            self.argv,
            cwd=cwd,
            env={**(os.environ if env is None else env), _MARK: self._mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self._parts: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        _started.add(self)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def variable(self) -> str:
        """NAME=VALUE in the environment of this process and of all it starts, for `leftovers.processes_with`."""
        return f"{_MARK}={self._mark}"

    @property
    def output(self) -> str:
        """The output so far."""
        return "".join(self._parts)

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self._popen.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal to the process only, not to its children."""
        self._popen.send_signal(number)

    def write(self, text: str) -> None:
        """Write to its standard input, which stays open."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(text)
        self._popen.stdin.flush()

    def close_input(self) -> None:
        """Close its standard input."""
        assert self._popen.stdin is not None
        with suppress(BrokenPipeError):
            self._popen.stdin.close()

    def wait(self, limit: float | None = None) -> int:
        """Wait until it and everything that writes to its output have ended; return the exit status.

        Raises:
            AssertionError: this took longer than `limit` seconds; all its processes were killed.
        """
        limit = self.limit if limit is None else limit
        end = time.monotonic() + limit
        self.close_input()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(limit)
            self._reader.join(max(0.0, end - time.monotonic()))
            if not self._reader.is_alive():
                return self._popen.returncode
        ended = self._popen.poll()
        self.kill()
        state = "still running" if ended is None else f"ended with {ended}, but its children are still running"
        raise AssertionError(f"{' '.join(self.argv)}\n{state} after {limit:g} s. Its output:\n{self.output}")

    def kill(self) -> None:
        """Kill it and its descendants."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        while left := [one for one in processes_with(self.variable) if one != self.pid]:
            for one in left:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            time.sleep(0.02)
        self._popen.wait()
        self._reader.join()
        self.close_input()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as out:
            for line in out:
                self._parts.append(line)


#: Killed at exit, for use without `with`.
_started: weakref.WeakSet[Process] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for process in list(_started):
        if process.poll() is None:
            process.kill()


def start(
    argv: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stderr: int = subprocess.STDOUT,
    limit: float = LIMIT,
) -> Process:
    """Start a process; preferably as `with start(...) as process`."""
    return Process(argv, cwd=cwd, env=env, stderr=stderr, limit=limit)


def run(
    argv: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stderr: int = subprocess.STDOUT,
    limit: float = LIMIT,
) -> Finished:
    """Run a process to its end."""
    with start(argv, cwd=cwd, env=env, stderr=stderr, limit=limit) as process:
        return Finished(process.wait(), process.output)
