"""Files that are either whole or absent: written aside under a hidden name, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".tmp"


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it becomes `path` when the block ends without an exception.

    The folder is made if it is missing. A process that is killed inside the block leaves `path` as it was and a
    hidden `.NAME.*.tmp` that no reader looks at.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{SUFFIX}")
    try:
        yield aside
        _to_disk(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8 as the whole of `path`."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _to_disk(path: Path) -> None:
    # Without it a power cut after the rename can leave a name that holds no bytes.
    with open(path, "rb") as file:
        os.fsync(file.fileno())
