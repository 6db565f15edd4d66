"""Encoded images (PNG, JPEG, WebP ...) to square pixels or JPEG of one side, with Pillow; many of them in threads."""

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
from distcond.data.readers.folder_entries import printable
from distcond.errors import ConfigError

#: Of the JPEG that is written; FFCV's own writer has the same.
QUALITY = 90


def require_pillow(where: str) -> None:
    """Import Pillow and its formats, before threads would do it side by side.

    Raises:
        ConfigError: it is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError(f"data.root: {where} holds encoded images, which need Pillow: pip install pillow") from error
    Image.init()


def read_size(image: EncodedImage) -> tuple[int, int]:
    """Width and height, from the file's header.

    Raises:
        ConfigError: it cannot be decoded.
    """
    with _opened(image) as opened:
        width, height = opened.size
        return width, height


def decode_pixels(image: EncodedImage, side: int, exact: bool = False) -> np.ndarray:
    """(side, side, 3) uint8: the central square, scaled. Grey becomes colour, transparency is dropped.

    Args:
        image: what to decode.
        side: of the result; 0 = as it is.
        exact: refuse an image of another size instead.

    Raises:
        ConfigError: the image is broken, has more than 8 bits a channel or, with `exact`, another size.
    """
    with _opened(image) as opened:
        return np.asarray(_square(opened, side, image.name, exact))


def encode_jpeg(image: EncodedImage, side: int) -> bytes:
    """The same as a JPEG file of `side` x `side` pixels. A JPEG that is that already keeps its bytes.

    Raises:
        ConfigError: as `decode_pixels`.
    """
    with _opened(image) as opened:
        square = _square(opened, side, image.name, exact=False)
        if (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (side, side)):
            blob = image.read()
            if len(blob) <= 3 * side * side:  # more is not pixels
                return blob
        out = io.BytesIO()
        square.save(out, "JPEG", quality=QUALITY)
        return out.getvalue()


def decode_stored_jpeg(blob: bytes) -> np.ndarray:
    """(H, W, 3) uint8 of a JPEG that `encode_jpeg` gave."""
    return decode_pixels(EncodedImage(blob, "a stored image"), 0)  # of its own size


def _square(opened: Any, side: int, name: str, exact: bool) -> Any:
    from PIL import Image

    if opened.mode[0] in "IF":
        raise ConfigError(f"data.root: {name} has more than 8 bits a channel (mode {opened.mode}); convert it")
    if exact and opened.size != (side, side):
        raise ConfigError(f"data.root: {name} is {opened.width}x{opened.height}, not {side}x{side}")
    # Through RGBA where single colours of a palette are transparent, of which Pillow would warn.
    colour = opened.convert("RGBA").convert("RGB") if "transparency" in opened.info else opened.convert("RGB")
    if opened.size == (side, side) or not side:
        return colour
    short = min(opened.size)
    left, top = (opened.width - short) / 2, (opened.height - short) / 2
    box = (left, top, left + short, top + short)
    return colour.resize((side, side), Image.Resampling.BILINEAR, box=box)


@contextmanager
def _opened(image: EncodedImage) -> Iterator[Any]:
    """An open Pillow image; whatever goes wrong in reading it is a ConfigError with its name."""
    from PIL import Image

    # What Pillow raises for broken files of one format or another, and for images of more pixels than anybody means.
    broken = (
        *(OSError, SyntaxError, ValueError, EOFError, MemoryError, OverflowError, IndexError, KeyError, struct.error),
        *(TypeError, AttributeError, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
    )
    try:
        with Image.open(io.BytesIO(image.data) if isinstance(image.data, bytes) else image.data) as opened:
            yield opened
    except ConfigError:
        raise
    except broken as error:
        raise ConfigError(
            f"data.root: {image.name} cannot be decoded: {explain_damage(image.data, error or type(error).__name__)}"
        ) from error


_CHUNK = 256


def decode_images(
    sources: Sequence[bytes | Path], out: np.ndarray, where: str, advance: Callable[[int], object], row: int = 0
) -> None:
    """Decode each file, or the bytes of one, into its row of `out`, (N, S, S, 3) uint8. Grey becomes colour.

    Calls `advance(count)` as it goes. Images that are no files are called rows of `where` in errors, from `row` on.

    Raises:
        ConfigError: Pillow is missing; an image is broken or not S x S.
    """
    require_pillow(where)

    def work(first: int) -> int:
        chunk = sources[first : first + _CHUNK]
        for place, source in enumerate(chunk, first):
            name = f"{where}, row {row + place}" if isinstance(source, bytes) else printable(str(source))
            out[place] = decode_pixels(EncodedImage(source, name), out.shape[1], exact=True)
        return len(chunk)

    with ThreadPoolExecutor(decode_threads()) as pool:
        for count in pool.map(work, range(0, len(sources), _CHUNK)):
            advance(count)


def decode_threads() -> int:
    """How many threads decode."""
    return min(8, os.cpu_count() or 1)
