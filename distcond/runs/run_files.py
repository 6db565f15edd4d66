"""The small files of runs below a folder, as the status reads them. No torch, no pyarrow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distcond.errors import ConfigError

#: How much of the end of a history is read: the last records are of interest.
TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class RunFiles:
    """One run's directory on a file system of this machine."""

    path: str

    def json(self, name: str) -> Any:
        """The value in a file; None where there is none or it is not whole."""
        return _value(self.content(name))

    def tail(self, name: str) -> list[Any]:
        """The values of the last lines of a JSON-lines file, oldest first."""
        return [
            value for value in map(_value, whole_lines(self.content(name, TAIL_BYTES), TAIL_BYTES)) if value is not None
        ]

    def content(self, name: str, last: int = 0) -> bytes:
        """A file's bytes, or its last so many; empty without the file."""
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                if last:
                    file.seek(max(0, os.fstat(file.fileno()).st_size - last))
                return file.read()
        except OSError:
            return b""

    def names(self, folder: str) -> dict[str, float]:
        """Names and times (seconds since 1970) of the files in a folder."""
        try:
            with os.scandir(os.path.join(self.path, folder)) as entries:
                return {entry.name: entry.stat().st_mtime for entry in entries if entry.is_file()}
        except OSError:
            return {}

    @property
    def place(self) -> str:
        """Where the run lies."""
        return self.path


def runs_below(place: Path) -> Iterator[RunFiles]:
    """The runs at and below a folder: directories with a `config.json`.

    Raises:
        ConfigError: no such folder.
    """
    if not place.is_dir():
        raise ConfigError(f"{place}: no such folder; name a run directory or a directory of runs")
    for folder, folders, names in os.walk(place):
        if "config.json" in names:
            folders.clear()
            yield RunFiles(folder)
        folders[:] = [name for name in folders if not name.startswith(".")]


def _value(text: bytes) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def whole_lines(end: bytes, wanted: int) -> list[bytes]:
    """The lines of `end`, without a first one that may be cut, as when all `wanted` bytes were there to be read."""
    lines = end.splitlines()
    return lines[1:] if len(end) >= wanted else lines
