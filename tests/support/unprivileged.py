"""Drops root's power over file permissions within a block."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION = 0x20080522
#: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
_OVER_FILES = (1 << 1) | (1 << 2)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Within the block, file permissions apply to this thread even if it is root."""
    if os.geteuid():
        yield
        return
    before = _capabilities()
    _set([before[0] & ~_OVER_FILES, *before[1:]])
    try:
        yield
    finally:
        _set(before)


def _capabilities() -> list[int]:
    data = (ctypes.c_uint32 * 6)()
    _call("capget", data)
    return list(data)


def _set(values: list[int]) -> None:
    _call("capset", (ctypes.c_uint32 * 6)(*values))


def _call(name: str, data: ctypes.Array[ctypes.c_uint32]) -> None:
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    if getattr(ctypes.CDLL(None, use_errno=True), name)(header, data):
        raise OSError(ctypes.get_errno(), name)
