"""Checksums of published files, fingerprints of a root, digests of large files.

Also explains why a file cannot be read: empty, a git-lfs pointer, a web page.
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

#: Checksum files as `md5sum` and `sha256sum` write them, and their algorithm.
CHECKSUM_FILES = {"MD5SUMS": "md5", "SHA256SUMS": "sha256"}
#: Up to this total size (bytes) files are hashed (about a second per GB); above it only names and sizes count.
MAX_HASHED_BYTES = 2 << 30

_CHUNK = 1 << 22
#: `content_digest` reads files up to this size completely.
_MAX_FULLY_DIGESTED = 32 << 20
#: Of a larger file it reads the head, where labels and records are, and evenly spaced pieces of the rest.
_HEAD, _PIECE, _NUM_PIECES = 16 << 20, 128 << 10, 64
_LFS_SIGNATURE = b"version https://git-lfs"


class PublishedFile(NamedTuple):
    """Size in bytes and checksum of an original file."""

    size: int
    md5: str


def check_published(files: Sequence[Path], published: Mapping[str, PublishedFile]) -> None:
    """Check files of the published size against the published checksum. Files of another size are taken as subsets.

    Raises:
        ConfigError: a file is damaged.
    """
    for path in files:
        original = published.get(path.name)
        if original is not None and path.stat().st_size == original.size and file_checksum(path, "md5") != original.md5:
            raise ConfigError(f"data.root: {path} is damaged: its MD5 is not the published {original.md5}; fetch again")


def check_listed(root: Path, files: Sequence[Path]) -> None:
    """Check the files against a SHA256SUMS or MD5SUMS in the root. Other files that it lists are not checked.

    Raises:
        ConfigError: a checksum differs; a listed file with one of the suffixes of `files` is missing; a line is
            malformed.
    """
    for name, algorithm in CHECKSUM_FILES.items():
        if not (root / name).is_file():
            continue
        checked, suffixes = set(files), {path.suffix for path in files}
        for path, expected in _parse_checksum_file(root / name):
            if not path.is_file() and path.suffix in suffixes:
                raise ConfigError(f"data.root: {path} is missing, but {root / name} lists it")
            if path in checked and file_checksum(path, algorithm) != expected:
                raise ConfigError(f"data.root: {path} is damaged: its checksum is not the one in {root / name}")


def file_checksum(path: Path, algorithm: str) -> str:
    """The checksum of a file in lower-case hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def fingerprint(files: Iterable[Path], root: Path, max_bytes: int = MAX_HASHED_BYTES) -> str:
    """16 hex digits from the files' paths below `root`, their sizes and, up to `max_bytes` in all, their content.

    Raises:
        ConfigError: a file cannot be read.
    """
    try:
        return _fingerprint(sorted(files), root, max_bytes)
    except OSError as error:
        raise ConfigError(f"data.root: {error.filename} cannot be read ({error.strerror})") from error


def content_digest(path: Path) -> str:
    """16 hex digits from the size and content of a file; of a file above 32 MiB only 24 MiB are read.

    Raises:
        OSError: there is no such file.
    """
    state = os.stat(path)
    return _content_digest(path, state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns)


def explain_damage(content: bytes | Path, reader_error: object) -> str:
    """Why a file or its bytes cannot be read, in one line; `reader_error` if the first bytes do not show it."""
    try:
        begin = content[:64] if isinstance(content, bytes) else _first_bytes(content)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if not begin:
        return "the file is empty"
    if begin.startswith(_LFS_SIGNATURE):
        return "a git-lfs pointer instead of the file; run git lfs pull"
    if begin.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page instead of the file; download it again"
    return " ".join(str(reader_error).split())


def _parse_checksum_file(file: Path) -> Iterator[tuple[Path, str]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{32,64}) [ *](.+)", line)
        if match is None:
            raise ConfigError(f"data.root: {file}, line {number}: expected a checksum, two spaces and a file's path")
        yield file.parent / match[2].removeprefix("./"), match[1].lower()


@cache
def _content_digest(path: Path, size: int, *state: int) -> str:
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with open(path, "rb") as file:
        if size <= _MAX_FULLY_DIGESTED:
            digest.update(file.read())
            return digest.hexdigest()
        digest.update(file.read(_HEAD))
        for piece in range(_NUM_PIECES + 1):
            file.seek(_HEAD + (size - _HEAD - _PIECE) * piece // _NUM_PIECES)
            digest.update(file.read(_PIECE))
    return digest.hexdigest()


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(64)


def _fingerprint(paths: Sequence[Path], root: Path, max_bytes: int) -> str:
    sizes = [path.stat().st_size for path in paths]
    digest = hashlib.blake2b(digest_size=8)
    with_content = sum(sizes) <= max_bytes
    with progress_bar(len(paths), "hashing files") as advance:
        for path, size in zip(paths, sizes, strict=True):
            # File names need not be valid UTF-8.
            digest.update(os.fsencode(os.path.relpath(path, root)) + f"\0{size}\0".encode())
            if with_content:
                _add_content(digest, path)
            advance(1)
    return digest.hexdigest()


def _add_content(digest: hashlib.blake2b, path: Path) -> None:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
