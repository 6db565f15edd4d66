"""Folders of several files that count as one: there only once a marker, put last, names all its files with sizes."""

from __future__ import annotations

import json
from collections.abc import Iterable

from distcond.storage.store import Stat, StorageError, Store

MARKER = "complete.json"


def seal(store: Store, folder: str, files: Iterable[str]) -> None:
    """Publish the marker of a folder whose files (by their names in it) are up.

    Raises:
        StorageError: one of them is not there, or the marker cannot be put.
    """
    files, held = list(files), store.names(folder)
    wanted = {name: held[f"{folder}/{name}"].size for name in files if f"{folder}/{name}" in held}
    missing = sorted(set(files) - set(wanted))
    if missing:
        raise StorageError(f"{store.uri}: {folder} lacks {', '.join(missing)}")
    store.put_bytes(json.dumps({"files": wanted}, indent=1).encode(), f"{folder}/{MARKER}")


def sealed(store: Store, held: dict[str, Stat], folder: str) -> list[str]:
    """Full names of the files of a whole folder; empty where its marker is missing or its files are not all there.

    `held` is a listing of the store that covers the folder.
    """
    if f"{folder}/{MARKER}" not in held:
        return []
    try:
        files: dict[str, int] = json.loads(store.read(f"{folder}/{MARKER}"))["files"]
    except (ValueError, KeyError, FileNotFoundError):
        return []
    names = {f"{folder}/{name}": size for name, size in files.items()}
    whole = all(name in held and held[name].size == size for name, size in names.items())
    return list(names) if whole else []


def remove(store: Store, folder: str) -> None:
    """Delete a folder, its marker first: a reader never meets a marker without its files."""
    store.delete(f"{folder}/{MARKER}")
    store.delete_below(folder)
