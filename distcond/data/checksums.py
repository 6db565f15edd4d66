"""Files that are not what they should be: against the sums their authors published, or those that lie beside them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from distcond.errors import ConfigError

#: Files with sums, as `md5sum` and `sha256sum` write them.
LISTS = {"MD5SUMS": "md5", "SHA256SUMS": "sha256"}


class Published(NamedTuple):
    """What an original file measures."""

    size: int
    md5: str


def check_published(files: Sequence[Path], published: Mapping[str, Published]) -> None:
    """Refuse a file of the published size that is not the published file. Another size is somebody's subset.

    Raises:
        ConfigError: it is damaged.
    """
    for path in files:
        original = published.get(path.name)
        if original is not None and path.stat().st_size == original.size and digest(path, "md5") != original.md5:
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
            if path in wanted and digest(path, algorithm) != expected:
                raise ConfigError(f"data.root: {path} is damaged: its sum is not the one in {root / name}")


def digest(path: Path, algorithm: str) -> str:
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
