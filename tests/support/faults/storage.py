"""A small disk that can fill up and disappear: a real file system, if this process may mount one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SIZE = "64m"
#: Bytes left by `nearly_fill`.
NEARLY_FULL = 24 * 2**10


class Storage:
    """`with Storage(folder) as disk`: `disk.path` is a directory on it, mounted over a read-only one."""

    def __init__(self, folder: Path) -> None:
        self._disk, self._below = folder / "disk", folder / "below"
        self.path = self._below / "seen"

    def __enter__(self) -> Storage:
        self._disk.mkdir()
        self._below.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(self._disk))
        _run("mount", "-t", "tmpfs", "none", str(self._below))
        self.path.mkdir()
        _run("mount", "-o", "remount,ro", str(self._below))
        self.come_back()
        return self

    def __exit__(self, *error: object) -> None:
        for place in (self.path, self._below, self._disk):
            subprocess.run(["umount", "-l", str(place)], capture_output=True)

    def fill(self, but: int = 0) -> None:
        """Leave `but` bytes free, rounded to pages."""
        for _ in range(100):
            state = os.statvfs(self._disk)
            used = (state.f_blocks - state.f_bfree) * state.f_frsize
            done = _try_run("mount", "-o", f"remount,size={used + but}", str(self._disk))
            if done.returncode == 0:  # otherwise something was written meanwhile
                return
        raise RuntimeError(done.stderr)

    def nearly_fill(self) -> None:
        """Leave space for small files and a part of a checkpoint, but not for all of it."""
        self.fill(but=NEARLY_FULL)

    def empty(self) -> None:
        """Restore the free space."""
        _run("mount", "-o", f"remount,size={SIZE}", str(self._disk))

    def go_away(self) -> None:
        """Unmount it, with its open files."""
        _run("umount", "-l", str(self.path))

    def come_back(self) -> None:
        """Mount it again, unchanged."""
        _run("mount", "--bind", str(self._disk), str(self.path))


def why_no_storage(folder: Path) -> str:
    """Why this process cannot mount; empty if it can."""
    try:
        with Storage(folder):
            return ""
    except (OSError, RuntimeError) as error:
        return f"cannot mount a file system: {error}"


def _try_run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True)


def _run(*words: str) -> None:
    done = _try_run(*words)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
