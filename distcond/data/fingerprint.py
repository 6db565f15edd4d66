"""Naming content: the same files give the same short name anywhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from distcond.data.progress import progress
from distcond.errors import ConfigError

#: Up to here files are hashed whole (about a second per GB); above it by name and size only.
MAX_BYTES = 2 << 30
_CHUNK = 1 << 22


def fingerprint(files: Iterable[Path], root: Path, max_bytes: int = MAX_BYTES) -> str:
    """16 hex digits from the files' paths below `root`, their sizes and, up to `max_bytes` in all, their content.

    Raises:
        ConfigError: a file cannot be read.
    """
    try:
        return _fingerprint(sorted(files), root, max_bytes)
    except OSError as error:
        raise ConfigError(f"data.root: {error.filename} cannot be read ({error.strerror})") from error


def _fingerprint(paths: Sequence[Path], root: Path, max_bytes: int) -> str:
    sizes = [path.stat().st_size for path in paths]
    digest = hashlib.blake2b(digest_size=8)
    with_content = sum(sizes) <= max_bytes
    with progress(len(paths), "hashing files") as advance:
        for path, size in zip(paths, sizes, strict=True):
            # Names need not be UTF-8.
            digest.update(os.fsencode(os.path.relpath(path, root)) + f"\0{size}\0".encode())
            if with_content:
                _add_content(digest, path)
            advance(1)
    return digest.hexdigest()


def _add_content(digest: hashlib.blake2b, path: Path) -> None:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
