"""Finds runs below a folder and reads their small files, for the status. Imports neither torch nor pyarrow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distcond.errors import ConfigError
from distcond.run_layout import CONFIG_FILE

#: Bytes to read from the end of a history.
TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class RunFiles:
    """The files of one run on a file system of this machine."""

    path: str

    def json(self, name: str) -> Any:
        """The value in a JSON file; None if it is missing or incomplete."""
        return _parse_json(self.content(name))

    def tail(self, name: str) -> list[Any]:
        """The values of the last lines of a JSON-lines file, oldest first."""
        lines = complete_lines(self.content(name, TAIL_BYTES), TAIL_BYTES)
        return [value for value in map(_parse_json, lines) if value is not None]

    def content(self, name: str, last: int = 0) -> bytes:
        """The bytes of a file, or its `last` bytes; empty if it is missing."""
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                if last:
                    file.seek(max(0, os.fstat(file.fileno()).st_size - last))
                return file.read()
        except OSError:
            return b""

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


def _parse_json(text: bytes) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def complete_lines(tail: bytes, limit: int) -> list[bytes]:
    """The lines of a file's `tail`, without the first if it may be cut, that is if `limit` bytes were read."""
    lines = tail.splitlines()
    return lines[1:] if len(tail) >= limit else lines
