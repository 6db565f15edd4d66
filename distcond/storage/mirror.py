"""Mirror: keep a local directory and its copy in a store alike. Pushes files that changed, pulls files that differ.

A folder of several files that belong together (a checkpoint) has a marker file that lists all of them with their sizes.
The marker is uploaded last and deleted first, so a folder without one does not count.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from distcond.atomic_io import atomic_write_text
from distcond.run_layout import COMPLETE_FILE
from distcond.storage.errors import StorageError
from distcond.storage.store import Stat, Store

T = TypeVar("T")

#: Seconds to wait before each try.
PAUSES = (0.0, 2.0, 5.0)

_STATE_FILE = ".mirror.json"


class Mirror:
    """`local` mirrored at `store`. A hidden file in `local` records which files are the same on both sides.

    Only one process may push at a time.
    """

    def __init__(self, local: Path, store: Store) -> None:
        self.local, self.store = local, store
        # name -> [size, mtime_ns] of the local file, after a pull followed by those in the store
        self._synced = self._load_state()

    def push(self, names: Iterable[str], pauses: Iterable[float] = PAUSES) -> int:
        """Upload the files that changed, in the order given. Returns how many were sent.

        Raises:
            StorageError: a file could not be sent in as many tries as there are pauses; those before it were.
        """
        sent = 0
        for name in names:
            file = self.local / name
            try:
                stat = file.stat()
            except FileNotFoundError:  # deleted since it was listed
                continue
            if self._synced.get(name, ())[:2] == [stat.st_size, stat.st_mtime_ns]:
                continue
            retry(partial(self.store.put, file, name), pauses)
            self._synced[name] = [stat.st_size, stat.st_mtime_ns]
            sent += 1
        if sent:
            self._save_state()
        return sent

    def pull(self, listing: dict[str, Stat], names: Iterable[str], overwrite: bool = True) -> int:
        """Download the files that differ from what was last downloaded. Returns how many came.

        Args:
            listing: a listing of the store that covers `names`.
            names: what to download.
            overwrite: whether to replace local files; False downloads only what is missing here.
        """
        received = 0
        for name in names:
            file, remote = self.local / name, listing[name]
            if self.has(name, remote) or (not overwrite and file.exists()):
                continue
            retry(partial(self.store.get, name, file))
            stat = file.stat()
            self._synced[name] = [stat.st_size, stat.st_mtime_ns, *remote]
            received += 1
        if received:
            self._save_state()
        return received

    def has(self, name: str, remote: Stat) -> bool:
        """Whether the local file is the one that was downloaded when the store held `remote`."""
        with suppress(FileNotFoundError):
            stat = (self.local / name).stat()
            return self._synced.get(name) == [stat.st_size, stat.st_mtime_ns, *remote]
        return False

    def forget(self, names: Iterable[str]) -> None:
        """Assume that the store does not hold these files."""
        for name in list(names):
            self._synced.pop(name, None)

    def remembered(self) -> list[str]:
        """The names of all files that the store should hold."""
        return list(self._synced)

    def files(self, include: Callable[[str], bool] = lambda name: True) -> list[str]:
        """Names of the local files for which `include` is true, sorted. Hidden files and folders are left out."""
        found = []
        for folder, subfolders, names in os.walk(self.local):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            found += [str(Path(folder, name).relative_to(self.local)) for name in names if not name.startswith(".")]
        return sorted(filter(include, found))

    def _load_state(self) -> dict[str, list[int]]:
        try:
            by_uri: dict[str, dict[str, list[int]]] = json.loads((self.local / _STATE_FILE).read_text())
        except (OSError, ValueError):
            return {}
        return by_uri.get(self.store.uri, {})

    def _save_state(self) -> None:
        atomic_write_text(self.local / _STATE_FILE, json.dumps({self.store.uri: self._synced}))


def retry(operation: Callable[[], T], pauses: Iterable[float] = PAUSES) -> T:
    """Call `operation` until it succeeds, with a pause before each try. Returns its result.

    Raises:
        StorageError: the error of the last try.
    """
    last: StorageError | None = None
    for pause in pauses:
        time.sleep(pause)
        try:
            return operation()
        except StorageError as error:
            last = error
    assert last is not None, "at least one try"
    raise last


def mark_complete(store: Store, folder: str, files: Iterable[str]) -> None:
    """Publish the marker of a folder whose files (names relative to it) are uploaded.

    Raises:
        StorageError: a file is missing, or the marker cannot be written.
    """
    files, listing = list(files), store.names(folder)
    sizes = {name: listing[f"{folder}/{name}"].size for name in files if f"{folder}/{name}" in listing}
    missing = sorted(set(files) - set(sizes))
    if missing:
        raise StorageError(f"{store.uri}: {folder} lacks {', '.join(missing)}")
    store.put_bytes(json.dumps({"files": sizes}, indent=1).encode(), f"{folder}/{COMPLETE_FILE}")


def files_if_complete(store: Store, listing: dict[str, Stat], folder: str) -> list[str]:
    """Full names of the files of a complete folder; empty without its marker, or if a file is missing or cut short.

    `listing` is a listing of the store that covers the folder.
    """
    if f"{folder}/{COMPLETE_FILE}" not in listing:
        return []
    try:
        files: dict[str, int] = json.loads(store.read(f"{folder}/{COMPLETE_FILE}"))["files"]
    except (ValueError, KeyError, FileNotFoundError):
        return []
    sizes = {f"{folder}/{name}": size for name, size in files.items()}
    complete = all(name in listing and listing[name].size == size for name, size in sizes.items())
    return list(sizes) if complete else []


def remove_folder(store: Store, folder: str) -> None:
    """Delete a folder, its marker first: a reader never finds a marker without its files."""
    store.delete(f"{folder}/{COMPLETE_FILE}")
    store.delete_below(folder)
