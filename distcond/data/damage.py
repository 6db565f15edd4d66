"""What a file is that cannot be read as what it should be, as far as its beginning says so."""

from __future__ import annotations

from pathlib import Path

_LFS = b"version https://git-lfs"


def explained(content: bytes | Path, otherwise: object) -> str:
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
