"""A local directory and its copy in a store: changed files are pushed, newer ones pulled.

Folders of several files that count as one (checkpoints) have a marker, put last, that names all their files with sizes.
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
from distcond.storage.store import Stat, StorageError, Store

T = TypeVar("T")

#: Seconds to wait before each try.
PAUSES = (0.0, 2.0, 5.0)

_MEMORY = ".mirror.json"


class Mirror:
    """`local` at `store`. Which files are alike on both sides is remembered in a hidden file of `local`.

    One process may push at a time; files it does not push, it need not know of.
    """

    def __init__(self, local: Path, store: Store) -> None:
        self.local, self.store = local, store
        self._alike = self._remembered()

    def push(self, names: Iterable[str], pauses: Iterable[float] = PAUSES) -> int:
        """Send those files that have changed, in the order given; how many were sent.

        Raises:
            StorageError: one could not be sent in as many tries as there are pauses; those before it were.
        """
        sent = 0
        for name in names:
            file = self.local / name
            try:
                stat = file.stat()
            except FileNotFoundError:  # removed since it was listed
                continue
            if self._alike.get(name, ())[:2] == [stat.st_size, stat.st_mtime_ns]:
                continue
            retry(partial(self.store.put, file, name), pauses)
            self._alike[name] = [stat.st_size, stat.st_mtime_ns]
            sent += 1
        if sent:
            self._remember()
        return sent

    def pull(self, held: dict[str, Stat], wanted: Iterable[str], overwrite: bool = True) -> int:
        """Fetch those of the `wanted` files that differ from what was fetched last; how many came.

        `held` is a listing of the store. Without `overwrite` only what is missing here is fetched.
        """
        came = 0
        for name in wanted:
            file, there = self.local / name, held[name]
            if self.has(name, there) or (not overwrite and file.exists()):
                continue
            retry(partial(self.store.get, name, file))
            stat = file.stat()
            self._alike[name] = [stat.st_size, stat.st_mtime_ns, *there]
            came += 1
        if came:
            self._remember()
        return came

    def has(self, name: str, there: Stat) -> bool:
        """Whether the file here is the one that was fetched when the store held it so."""
        with suppress(FileNotFoundError):
            stat = (self.local / name).stat()
            return self._alike.get(name) == [stat.st_size, stat.st_mtime_ns, *there]
        return False

    def forget(self, names: Iterable[str]) -> None:
        """Take it that the store does not hold these."""
        for name in list(names):
            self._alike.pop(name, None)

    def remembered(self) -> list[str]:
        """The names of all files that the store should hold."""
        return list(self._alike)

    def files(self, wanted: Callable[[str], bool] = lambda name: True) -> list[str]:
        """Names of the local files, sorted; hidden ones, and those in hidden folders, are left out."""
        found = []
        for place, folders, names in os.walk(self.local):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            found += [str(Path(place, name).relative_to(self.local)) for name in names if not name.startswith(".")]
        return sorted(filter(wanted, found))

    def _remembered(self) -> dict[str, list[int]]:
        try:
            found: dict[str, dict[str, list[int]]] = json.loads((self.local / _MEMORY).read_text())
        except (OSError, ValueError):
            return {}
        return found.get(self.store.uri, {})

    def _remember(self) -> None:
        atomic_write_text(self.local / _MEMORY, json.dumps({self.store.uri: self._alike}))


def retry(work: Callable[[], T], pauses: Iterable[float] = PAUSES) -> T:
    """The result of `work`: try until it works, with a pause before each try.

    Raises:
        StorageError: what the last try met.
    """
    met: StorageError | None = None
    for pause in pauses:
        time.sleep(pause)
        try:
            return work()
        except StorageError as error:
            met = error
    assert met is not None, "at least one try"
    raise met


def mark_complete(store: Store, folder: str, files: Iterable[str]) -> None:
    """Publish the marker of a folder whose files (by their names in it) are up.

    Raises:
        StorageError: one of them is not there, or the marker cannot be put.
    """
    files, held = list(files), store.names(folder)
    wanted = {name: held[f"{folder}/{name}"].size for name in files if f"{folder}/{name}" in held}
    missing = sorted(set(files) - set(wanted))
    if missing:
        raise StorageError(f"{store.uri}: {folder} lacks {', '.join(missing)}")
    store.put_bytes(json.dumps({"files": wanted}, indent=1).encode(), f"{folder}/{COMPLETE_FILE}")


def files_if_complete(store: Store, held: dict[str, Stat], folder: str) -> list[str]:
    """Full names of the files of a whole folder; empty where its marker is missing or its files are not all there.

    `held` is a listing of the store that covers the folder.
    """
    if f"{folder}/{COMPLETE_FILE}" not in held:
        return []
    try:
        files: dict[str, int] = json.loads(store.read(f"{folder}/{COMPLETE_FILE}"))["files"]
    except (ValueError, KeyError, FileNotFoundError):
        return []
    names = {f"{folder}/{name}": size for name, size in files.items()}
    whole = all(name in held and held[name].size == size for name, size in names.items())
    return list(names) if whole else []


def remove_folder(store: Store, folder: str) -> None:
    """Delete a folder, its marker first: a reader never meets a marker without its files."""
    store.delete(f"{folder}/{COMPLETE_FILE}")
    store.delete_below(folder)
