"""Decoding many images of one size (PNG, WebP, JPEG) into memory, with Pillow, in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from distcond.data.dataset import EncodedImage
from distcond.data.folder_entries import printable
from distcond.data.square import need_pillow, pixels

_CHUNK = 256


def decode(
    sources: Sequence[bytes | Path], out: np.ndarray, where: str, advance: Callable[[int], object], row: int = 0
) -> None:
    """Decode each file, or the bytes of one, into its row of `out`, (N, S, S, 3) uint8. Grey becomes colour.

    Calls `advance(count)` as it goes. Images that are no files are called rows of `where` in errors, from `row` on.

    Raises:
        ConfigError: Pillow is missing; an image is broken or not S x S.
    """
    need_pillow(where)

    def work(first: int) -> int:
        chunk = sources[first : first + _CHUNK]
        for place, source in enumerate(chunk, first):
            name = f"{where}, row {row + place}" if isinstance(source, bytes) else printable(str(source))
            out[place] = pixels(EncodedImage(source, name), out.shape[1], exact=True)
        return len(chunk)

    with ThreadPoolExecutor(threads()) as pool:
        for count in pool.map(work, range(0, len(sources), _CHUNK)):
            advance(count)


def threads() -> int:
    """How many threads decode."""
    return min(8, os.cpu_count() or 1)
