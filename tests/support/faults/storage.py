"""A small disk of a run's own that can fill up and go away: a real file system, where this process may mount one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOM = "64m"
SOME = 24 * 2**10


class Storage:
    """`with Storage(folder) as disk`: `disk.path` is a directory on it. What lies below it is read-only."""

    def __init__(self, folder: Path) -> None:
        self._disk, self._below = folder / "disk", folder / "below"
        self.path = self._below / "seen"

    def __enter__(self) -> Storage:
        self._disk.mkdir()
        self._below.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", str(self._disk))
        _run("mount", "-t", "tmpfs", "none", str(self._below))
        self.path.mkdir()
        _run("mount", "-o", "remount,ro", str(self._below))
        self.come_back()
        return self

    def __exit__(self, *error: object) -> None:
        for place in (self.path, self._below, self._disk):
            subprocess.run(["umount", "-l", str(place)], capture_output=True)

    def fill(self, but: int = 0) -> None:
        """Leave room for so many bytes more, in whole pages."""
        for _ in range(100):
            state = os.statvfs(self._disk)
            used = (state.f_blocks - state.f_bfree) * state.f_frsize
            done = _tried("mount", "-o", f"remount,size={used + but}", str(self._disk))
            if done.returncode == 0:  # else something was written meanwhile
                return
        raise RuntimeError(done.stderr)

    def nearly_fill(self) -> None:
        """Leave room for small files and for a part of a checkpoint, but not for all of it."""
        self.fill(but=SOME)

    def empty(self) -> None:
        """Have room again."""
        _run("mount", "-o", f"remount,size={ROOM}", str(self._disk))

    def go_away(self) -> None:
        """Vanish with all that is on it, also under open files' names."""
        _run("umount", "-l", str(self.path))

    def come_back(self) -> None:
        """Be there again, as it was."""
        _run("mount", "--bind", str(self._disk), str(self.path))


def why_no_storage(folder: Path) -> str:
    """Why this process cannot mount; empty if it can."""
    try:
        with Storage(folder):
            return ""
    except (OSError, RuntimeError) as error:
        return f"no file system can be mounted here: {error}"


def _tried(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True)


def _run(*words: str) -> None:
    done = _tried(*words)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
