"""The small files of runs at a URI: one listing of the store, then only the files that are read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from distcond.run_layout import CONFIG_FILE
from distcond.storage.errors import StorageError, as_config_error
from distcond.storage.store import Stat, Store
from distcond.storage.uri import open_store


@dataclass(frozen=True)
class StoredRun:
    """One run in a store.

    Attributes:
        store: where it is.
        name: its path below the store's URI; empty where the URI is the run's own.
        listing: all files of the store.
    """

    store: Store
    name: str
    listing: dict[str, Stat]

    @property
    def place(self) -> str:
        """The URI of the run, without its query."""
        return f"{self.store.uri.partition('?')[0].rstrip('/')}/{self.name}".rstrip("/")

    def content(self, name: str, last: int = 0) -> bytes | None:
        """A file's bytes, or only the `last` ones; None without the file, or if it was deleted meanwhile."""
        if self._full_name(name) not in self.listing:
            return None
        with suppress(FileNotFoundError, StorageError):
            return self.store.read(self._full_name(name))[-last:]
        return None

    def names(self, folder: str) -> dict[str, float]:
        """Names and times (seconds since 1970) of the files in a folder."""
        prefix = self._full_name(folder) + "/"
        return {n.removeprefix(prefix): stat.time / 1e9 for n, stat in self.listing.items() if n.startswith(prefix)}

    def _full_name(self, name: str) -> str:
        return f"{self.name}/{name}" if self.name else name


def list_stored_runs(uri: str) -> list[StoredRun]:
    """The runs at and below a URI.

    Raises:
        ConfigError: it cannot be read.
    """
    store = open_store(uri)
    try:
        listing = store.names()
    except OSError as error:
        raise as_config_error(error) from error
    configs = [name for name in listing if name.rpartition("/")[2] == CONFIG_FILE]
    return [StoredRun(store, name.removesuffix(CONFIG_FILE).rstrip("/"), listing) for name in configs]
