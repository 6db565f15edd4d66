"""Finds runs below a folder and reads their small files, for the status. Imports neither torch nor pyarrow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distcond.errors import ConfigError
from distcond.run_layout import CONFIG_FILE


@dataclass(frozen=True)
class RunFiles:
    """The files of one run on a file system of this machine."""

    path: str

    def content(self, name: str, last: int = 0) -> bytes | None:
        """The bytes of a file, or its `last` bytes; None if it is missing."""
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                if last:
                    file.seek(max(0, os.fstat(file.fileno()).st_size - last))
                return file.read()
        except OSError:
            return None

    def names(self, folder: str) -> dict[str, float]:
        """Names and modification times (seconds since 1970) of the files in a folder."""
        try:
            with os.scandir(os.path.join(self.path, folder)) as entries:
                return {entry.name: entry.stat().st_mtime for entry in entries if entry.is_file()}
        except OSError:
            return {}

    @property
    def place(self) -> str:
        """Path of the run."""
        return self.path


def find_runs(folder: Path) -> Iterator[RunFiles]:
    """Find the runs at and below a folder: directories with a `config.json`.

    Raises:
        ConfigError: no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name a run directory or a directory of runs")
    for path, folders, files in os.walk(folder):
        if CONFIG_FILE in files:
            folders.clear()
            yield RunFiles(path)
        folders[:] = [name for name in folders if not name.startswith(".")]
