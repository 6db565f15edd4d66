"""Processes that outlive the command that started them, ended by their own ids and no others'."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from place import ROOT


def start(name: str, command: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Start `command` in a session of its own and write down which process it is."""
    with open(ROOT / f"{name}.out", "ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    (ROOT / f"{name}.pid").write_text(f"{process.pid} {_started(process.pid)}")


def names() -> list[str]:
    """Everything that was started, newest first."""
    files = [file for file in ROOT.glob("*.pid") if not file.name.endswith(".own.pid")]
    return [file.stem for file in sorted(files, key=lambda file: file.stat().st_mtime_ns, reverse=True)]


def process_of(name: str) -> int | None:
    """The process id, None once it has ended: a number that was given out anew is not ours."""
    with suppress(OSError, ValueError):
        pid, started = (int(word) for word in (ROOT / f"{name}.pid").read_text().split())
        if _started(pid) == started:
            return pid
    return None


def stop(name: str, number: signal.Signals = signal.SIGTERM, seconds: float = 10.0) -> None:
    """Send the signal, and SIGKILL if it has no effect in time."""
    for sent in (number, signal.SIGKILL):
        pid = process_of(name)
        if pid is None:
            break
        with suppress(ProcessLookupError):
            os.kill(pid, sent)
        wait(lambda: process_of(name) is None, seconds)
    (ROOT / f"{name}.pid").unlink(missing_ok=True)


def wait(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came to hold in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _started(pid: int) -> int:
    """When a process started, in ticks since boot; -1 for a zombie.

    Raises:
        OSError: no such process.
    """
    state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return -1 if state == "Z" else int(rest[18])
