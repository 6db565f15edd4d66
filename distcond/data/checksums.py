"""Is a file what it should be: published and listed checksums, fingerprints of a root, digests of large files.

Also what a file is that cannot be read (empty, a git-lfs pointer, a web page), as far as its beginning says so.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from distcond.data.progress_bar import progress_bar
from distcond.errors import ConfigError

#: Files with sums, as `md5sum` and `sha256sum` write them.
LISTS = {"MD5SUMS": "md5", "SHA256SUMS": "sha256"}


class PublishedFile(NamedTuple):
    """What an original file measures."""

    size: int
    md5: str


def check_published(files: Sequence[Path], published: Mapping[str, PublishedFile]) -> None:
    """Refuse a file of the published size that is not the published file. Another size is somebody's subset.

    Raises:
        ConfigError: it is damaged.
    """
    for path in files:
        original = published.get(path.name)
        if original is not None and path.stat().st_size == original.size and file_checksum(path, "md5") != original.md5:
            raise ConfigError(f"data.root: {path} is damaged: its MD5 is not the published {original.md5}; fetch again")


def check_listed(root: Path, files: Sequence[Path]) -> None:
    """Hold the files to a SHA256SUMS or MD5SUMS in the root. What it lists beside them does not matter.

    Raises:
        ConfigError: a file has another sum; a listed one of the same kind is missing; a line is not understood.
    """
    for name, algorithm in LISTS.items():
        if not (root / name).is_file():
            continue
        wanted, kinds = set(files), {path.suffix for path in files}
        for path, expected in _lines(root / name):
            if not path.is_file() and path.suffix in kinds:
                raise ConfigError(f"data.root: {path} is missing, but {root / name} lists it")
            if path in wanted and file_checksum(path, algorithm) != expected:
                raise ConfigError(f"data.root: {path} is damaged: its sum is not the one in {root / name}")


def file_checksum(path: Path, algorithm: str) -> str:
    """The sum of a file in lower-case hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _lines(file: Path) -> Iterator[tuple[Path, str]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{32,64}) [ *](.+)", line)
        if match is None:
            raise ConfigError(f"data.root: {file}, line {number}: expected a sum, two spaces and a file's path")
        yield file.parent / match[2].removeprefix("./"), match[1].lower()


#: Up to here a file is hashed whole.
_WHOLE = 32 << 20
#: Of a larger one its beginning, where labels and records are, its end, and so many pieces spread over the rest.
_HEAD, _PIECE, _PIECES = 16 << 20, 128 << 10, 64


def content_digest(path: Path) -> str:
    """16 hex digits from the size and the content of a file, of a large one from 24 MiB of it.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(path)
    return _content(path, found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


@cache
def _content(path: Path, size: int, *state: int) -> str:
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with open(path, "rb") as file:
        if size <= _WHOLE:
            digest.update(file.read())
            return digest.hexdigest()
        digest.update(file.read(_HEAD))
        for piece in range(_PIECES + 1):
            file.seek(_HEAD + (size - _HEAD - _PIECE) * piece // _PIECES)
            digest.update(file.read(_PIECE))
    return digest.hexdigest()


_LFS = b"version https://git-lfs"


def explain_damage(content: bytes | Path, otherwise: object) -> str:
    """Why a file or its bytes cannot be read, in one line; `otherwise` is what the reader said."""
    try:
        begin = content[:64] if isinstance(content, bytes) else _begin(content)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if not begin:
        return "the file is empty"
    if begin.startswith(_LFS):
        return "a git-lfs pointer in place of the file; git lfs pull fetches it"
    if begin.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page in place of the file; fetch it again"
    return " ".join(str(otherwise).split())


def _begin(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(64)


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
    with progress_bar(len(paths), "hashing files") as advance:
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
