"""Decoding many small images (PNG, WebP, JPEG) with Pillow, in threads."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from distcond.errors import ConfigError

_CHUNK = 256


def decode(sources: Sequence[bytes | Path], out: np.ndarray, where: str, advance: Callable[[int], object]) -> None:
    """Decode each file, or the bytes of one, into its row of `out`, (N, S, S, 3) uint8. Grey becomes colour.

    Calls `advance(count)` as it goes. `where` names the images in errors.

    Raises:
        ConfigError: Pillow is missing; an image is broken or not S x S.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError(f"data.root: {where} holds encoded images, which need Pillow: pip install pillow") from error
    Image.init()  # every format, before threads would do it side by side

    def work(first: int) -> int:
        chunk = sources[first : first + _CHUNK]
        for row, source in enumerate(chunk, first):
            out[row] = _decoded(source, out.shape[1:], f"{where}: image {row}")
        return len(chunk)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for count in pool.map(work, range(0, len(sources), _CHUNK)):
            advance(count)


def _decoded(source: bytes | Path, shape: tuple[int, ...], what: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise ConfigError(f"data.root: {what} cannot be decoded: {error}") from error
    if pixels.shape != shape:
        raise ConfigError(f"data.root: {what} is {pixels.shape[1]}x{pixels.shape[0]}, not {shape[1]}x{shape[0]}")
    return pixels
