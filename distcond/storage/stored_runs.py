"""The small files of runs at a URI: one listing, then only what is asked for."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distcond.run_layout import CONFIG_FILE
from distcond.storage.store import Stat, StorageError, Store, as_config_error
from distcond.storage.uri import open_store


@dataclass(frozen=True)
class StoredRun:
    """One run; `name` is its path below the URI, empty where the URI is the run's own."""

    store: Store
    name: str
    held: dict[str, Stat]

    @property
    def place(self) -> str:
        """Where the run lies."""
        return f"{self.store.uri.partition('?')[0].rstrip('/')}/{self.name}".rstrip("/")

    def json(self, name: str) -> Any:
        """The value in a file; None where there is none."""
        with suppress(ValueError):
            return json.loads(self.content(name) or b"null")
        return None

    def tail(self, name: str) -> list[Any]:
        """The values of all whole lines of a JSON-lines file."""
        found = []
        for line in self.content(name).splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def content(self, name: str, last: int = 0) -> bytes:
        """A file's bytes, or its last so many; empty without the file, or where it is gone meanwhile."""
        if self._at(name) not in self.held:
            return b""
        with suppress(FileNotFoundError, StorageError):
            return self.store.read(self._at(name))[-last:]
        return b""

    def names(self, folder: str) -> dict[str, float]:
        """Names and times (seconds since 1970) of the files in a folder."""
        below = self._at(folder) + "/"
        return {name[len(below) :]: stat.time / 1e9 for name, stat in self.held.items() if name.startswith(below)}

    def _at(self, name: str) -> str:
        return f"{self.name}/{name}" if self.name else name


def list_stored_runs(uri: str) -> list[StoredRun]:
    """The runs at and below a URI.

    Raises:
        ConfigError: it cannot be read.
    """
    store = open_store(uri)
    try:
        held = store.names()
    except OSError as error:
        raise as_config_error(error) from error
    ends = [name.removesuffix(CONFIG_FILE).rstrip("/") for name in held if _is_config(name)]
    return [StoredRun(store, end, held) for end in ends]


def _is_config(name: str) -> bool:
    return name == "config.json" or name.endswith("/config.json")
