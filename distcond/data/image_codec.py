"""Converts encoded images (PNG, JPEG, WebP ...) to square pixels or JPEG of one size, with Pillow, in threads."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distcond.data.checksums import explain_damage
from distcond.data.dataset import EncodedImage
from distcond.data.readers.folder_entries import printable_name
from distcond.errors import ConfigError

#: Quality of the JPEG that is written, as in FFCV's own writer.
QUALITY = 90
#: Images per task of a decoding thread.
_TASK_SIZE = 256


def require_pillow(where: str) -> None:
    """Import Pillow and its formats, before threads do so concurrently.

    Raises:
        ConfigError: Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError(f"data.root: {where} holds encoded images, which need Pillow: pip install pillow") from error
    Image.init()


def read_size(image: EncodedImage) -> tuple[int, int]:
    """Width and height in pixels, from the file's header.

    Raises:
        ConfigError: the image cannot be decoded.
    """
    with _open(image) as opened:
        width, height = opened.size
        return width, height


def decode_pixels(image: EncodedImage, side: int, exact: bool = False) -> np.ndarray:
    """The central square, scaled, (side, side, 3) uint8. Grey becomes colour, transparency is dropped.

    Args:
        image: the image.
        side: side of the result in pixels; 0 = keep the size.
        exact: refuse an image of another size instead of scaling it.

    Raises:
        ConfigError: the image is broken, has more than 8 bits per channel or, with `exact`, another size.
    """
    with _open(image) as opened:
        return np.asarray(_to_square(opened, side, image.name, exact))


def encode_jpeg(image: EncodedImage, side: int) -> bytes:
    """The central square, scaled, as a JPEG file of `side` x `side` pixels. A JPEG of that size keeps its bytes.

    Raises:
        ConfigError: as `decode_pixels`.
    """
    with _open(image) as opened:
        square = _to_square(opened, side, image.name, exact=False)
        if (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (side, side)):
            blob = image.read()
            if len(blob) <= 3 * side * side:  # a larger file is mostly metadata
                return blob
        out = io.BytesIO()
        square.save(out, "JPEG", quality=QUALITY)
        return out.getvalue()


def decode_stored_jpeg(blob: bytes) -> np.ndarray:
    """Pixels (H, W, 3) uint8 of a JPEG from `encode_jpeg`."""
    return decode_pixels(EncodedImage(blob, "a stored image"), side=0)


def decode_images(
    sources: Sequence[bytes | Path],
    out: np.ndarray,
    where: str,
    advance: Callable[[int], object],
    first_row: int = 0,
) -> None:
    """Decode files or bytes into the rows of `out`, (N, S, S, 3) uint8. Grey becomes colour.

    Calls `advance(count)` as it proceeds. Errors name an image in bytes as a row of `where`, counted from `first_row`.

    Raises:
        ConfigError: Pillow is missing; an image is broken or not S x S.
    """
    require_pillow(where)

    def decode_task(first: int) -> int:
        task = sources[first : first + _TASK_SIZE]
        for row, source in enumerate(task, first):
            name = f"{where}, row {first_row + row}" if isinstance(source, bytes) else printable_name(str(source))
            out[row] = decode_pixels(EncodedImage(source, name), out.shape[1], exact=True)
        return len(task)

    with ThreadPoolExecutor(decode_threads()) as pool:
        for count in pool.map(decode_task, range(0, len(sources), _TASK_SIZE)):
            advance(count)


def decode_threads() -> int:
    """Number of decoding threads."""
    return min(8, os.cpu_count() or 1)


def _to_square(opened: Any, side: int, name: str, exact: bool) -> Any:
    from PIL import Image

    if opened.mode[0] in "IF":
        raise ConfigError(f"data.root: {name} has more than 8 bits per channel (mode {opened.mode}); convert it")
    if exact and opened.size != (side, side):
        raise ConfigError(f"data.root: {name} is {opened.width}x{opened.height}, not {side}x{side}")
    # Through RGBA if single colours of a palette are transparent: Pillow warns about the direct conversion.
    colour = opened.convert("RGBA").convert("RGB") if "transparency" in opened.info else opened.convert("RGB")
    if opened.size == (side, side) or not side:
        return colour
    short = min(opened.size)
    left, top = (opened.width - short) / 2, (opened.height - short) / 2
    box = (left, top, left + short, top + short)
    return colour.resize((side, side), Image.Resampling.BILINEAR, box=box)


@contextmanager
def _open(image: EncodedImage) -> Iterator[Any]:
    """An open Pillow image; errors of reading it become ConfigError with its name."""
    from PIL import Image

    # What Pillow's decoders raise on broken files, and on decompression bombs.
    decoding_errors = (
        *(OSError, SyntaxError, ValueError, EOFError, MemoryError, OverflowError, IndexError, KeyError, struct.error),
        *(TypeError, AttributeError, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
    )
    try:
        with Image.open(io.BytesIO(image.data) if isinstance(image.data, bytes) else image.data) as opened:
            yield opened
    except ConfigError:
        raise
    except decoding_errors as error:
        raise ConfigError(
            f"data.root: {image.name} cannot be decoded: {explain_damage(image.data, error or type(error).__name__)}"
        ) from error
