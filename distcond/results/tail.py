"""The last lines of a file of which only the end was read."""

from __future__ import annotations


def whole_lines(end: bytes, wanted: int) -> list[bytes]:
    """The lines of `end`, without a first one that may be cut, as when all `wanted` bytes were there to be read."""
    lines = end.splitlines()
    return lines[1:] if len(end) >= wanted else lines
