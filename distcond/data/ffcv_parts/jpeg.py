"""Decoding JPEG images of one size without a compiler, to what Pillow gives, bit for bit.

FFCV's own decoder has libjpeg-turbo take its fast but inexact transform, up to 10 of 255 away from Pillow's pixels, for
no gain in time. This one calls the same library, which FFCV links, with the exact transform.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import ffcv._libffcv
import numpy as np

from distcond.data.ffcv_import import plain

#: turbojpeg.h: TJPF_RGB, TJFLAG_ACCURATEDCT | TJFLAG_NOREALLOC, TJERR_WARNING.
_RGB, _FLAGS, _WARNING = 0, 4096 | 1024, 0


def decode_jpeg(threads: int) -> Callable[..., np.ndarray]:
    """What FFCV calls per batch of JPEG images of one size; `threads` threads decode, and hold no lock of Python's."""

    def decode(indices: np.ndarray, batch: np.ndarray, metadata: np.ndarray, storage: tuple[Any, ...]) -> Any:
        mapped, pointers, sizes = storage
        begins = metadata["data_ptr"][indices]
        lengths = sizes[np.searchsorted(pointers, begins)]
        blobs = [mapped[begin : begin + length] for begin, length in zip(begins, lengths, strict=True)]
        if threads == 1:
            _decode(blobs, batch)
            return batch
        # Threads of the batch: a pool that outlives it would have to be ended by whoever drops the loader.
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(_decode, blobs[part::threads], batch[part::threads]) for part in range(threads)]:
                done.result()
        return batch

    return plain(decode)


def _decode(blobs: list[np.ndarray], out: np.ndarray) -> None:
    library = _turbojpeg()
    handle = library.tjInitDecompress()
    try:
        for blob, image in zip(blobs, out, strict=True):
            height, width, _ = image.shape
            failed = library.tjDecompress2(
                handle, blob.ctypes.data, len(blob), image.ctypes.data, width, 0, height, _RGB, _FLAGS
            )
            # A warning is what Pillow passes over too.
            if failed and library.tjGetErrorCode(handle) != _WARNING:
                raise OSError("a JPEG of the .beton file is damaged; remove the file to have it written again")
    finally:
        library.tjDestroy(handle)


@cache
def _turbojpeg() -> ctypes.CDLL:
    library = ctypes.CDLL(ffcv._libffcv.__file__)
    library.tjInitDecompress.restype = ctypes.c_void_p
    library.tjDestroy.argtypes = [ctypes.c_void_p]
    library.tjGetErrorCode.argtypes = [ctypes.c_void_p]
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.tjDecompress2.argtypes = [pointer, pointer, ctypes.c_ulong, pointer, *[number] * 5]
    return library
