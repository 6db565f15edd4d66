"""Processes that tests start: one time limit, all output in one string, nothing left running.

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

#: Seconds that anything a test waits for may take; below pytest's own timeout, so that it can say what was printed.
LIMIT = 280.0

#: Set in a process and all that it starts: also what leaves its process group, as Ray's processes do, is found by it.
_MARK = "DISTCOND_TEST_PROCESS"


@dataclass(frozen=True)
class Finished:
    """How a process ended (status -N: by signal N) and what it and its children printed."""

    status: int
    output: str


class Process:
    """A process in a group of its own; as a context, it and all that it started are gone after the block.

    Args:
        argv: the command.
        cwd: where it runs; where pytest runs if not given.
        env: its whole environment; that of pytest if not given.
        stderr: as for subprocess.Popen; into the same output by default.
        limit: seconds that `wait` gives it.
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
        """What was printed so far."""
        return "".join(self._parts)

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self._popen.poll()

    def send_signal(self, number: int) -> None:
        """To the process alone, not to what it started."""
        self._popen.send_signal(number)

    def write(self, text: str) -> None:
        """To its standard input, which stays open."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(text)
        self._popen.stdin.flush()

    def close_input(self) -> None:
        """End its standard input."""
        assert self._popen.stdin is not None
        with suppress(BrokenPipeError):
            self._popen.stdin.close()

    def wait(self, limit: float | None = None) -> int:
        """The exit status, once it has ended and nothing can print any more.

        Raises:
            AssertionError: it took longer than `limit` seconds; everything of it was killed.
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
        what = "runs on" if ended is None else f"ended with {ended}, but what it started prints on"
        raise AssertionError(f"{' '.join(self.argv)}\n{what} after {limit:g} s. Its output:\n{self.output}")

    def kill(self) -> None:
        """End it and all that it started, at once."""
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


#: For what is used without `with`.
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
    """Start a process; best as `with start(...) as process`."""
    return Process(argv, cwd=cwd, env=env, stderr=stderr, limit=limit)


def run(
    argv: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stderr: int = subprocess.STDOUT,
    limit: float = LIMIT,
) -> Finished:
    """Start a process and wait for its end."""
    with start(argv, cwd=cwd, env=env, stderr=stderr, limit=limit) as process:
        return Finished(process.wait(), process.output)
