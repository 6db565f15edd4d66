"""One encoded image of any size becomes a square of a given side: pixels, or JPEG."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from distcond.data.damage import explained
from distcond.data.dataset import EncodedImage
from distcond.errors import ConfigError

#: Of the JPEG that is written; FFCV's own writer has the same.
QUALITY = 90


def need_pillow(where: str) -> None:
    """Import Pillow and its formats, before threads would do it side by side.

    Raises:
        ConfigError: it is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError(f"data.root: {where} holds encoded images, which need Pillow: pip install pillow") from error
    Image.init()


def size_of(image: EncodedImage) -> tuple[int, int]:
    """Width and height, from the file's header.

    Raises:
        ConfigError: it cannot be decoded.
    """
    with _opened(image) as opened:
        width, height = opened.size
        return width, height


def pixels(image: EncodedImage, side: int, exact: bool = False) -> np.ndarray:
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


def jpeg(image: EncodedImage, side: int) -> bytes:
    """The same as a JPEG file of `side` x `side` pixels. A JPEG that is that already keeps its bytes.

    Raises:
        ConfigError: as `pixels`.
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


def jpeg_pixels(blob: bytes) -> np.ndarray:
    """(H, W, 3) uint8 of a JPEG that `jpeg` gave."""
    return pixels(EncodedImage(blob, "a stored image"), 0)  # of its own size


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
            f"data.root: {image.name} cannot be decoded: {explained(image.data, error or type(error).__name__)}"
        ) from error
