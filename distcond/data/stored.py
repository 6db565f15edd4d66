"""One split on its way to a file, a block of images at a time: raw pixels, or JPEG of one size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from distcond.data.dataset import Arrays, Dataset, Encoded, EncodedImage, Split
from distcond.data.decode import threads
from distcond.data.progress import progress
from distcond.data.square import jpeg, jpeg_pixels, need_pillow, pixels

_ROWS = 1024
_PIECE = 16


@dataclass(frozen=True)
class Stored:
    """The images of a split, all of one size.

    Attributes:
        labels: (N,) int64.
        shape: of an image, (H, W, 3).
        jpeg: whether the blocks are JPEG.
        blocks: a fresh pass over the images, decoded in threads: arrays (n, H, W, 3) uint8, or n JPEG files.
    """

    labels: np.ndarray
    shape: tuple[int, ...]
    jpeg: bool
    blocks: Callable[[], Iterator[np.ndarray | list[bytes]]]

    def pixels(self) -> Iterator[np.ndarray]:
        """The blocks as pixels. JPEG is decoded, so that these are the stored images, not those they came from."""
        if not self.jpeg:
            yield from (np.asarray(block) for block in self.blocks())
            return
        with ThreadPoolExecutor(threads()) as pool:
            for block in self.blocks():
                yield np.stack(list(pool.map(jpeg_pixels, block)))


def stored(split: Split, dataset: Dataset, what: str) -> Stored:
    """A split in the form and size in which `dataset` stores it. `what` names it on a progress bar.

    Raises (while its blocks are read):
        ConfigError: an image is broken.
    """
    if isinstance(split, Arrays):
        return stored_arrays(split)
    need_pillow(what)
    side = dataset.side
    exact = split.side == side
    one: Callable[[EncodedImage], np.ndarray | bytes]
    one = (lambda image: jpeg(image, side)) if dataset.jpeg else (lambda image: pixels(image, side, exact))
    return Stored(split.labels, (side, side, 3), dataset.jpeg, lambda: _blocks(split, one, what))


def stored_arrays(arrays: Arrays) -> Stored:
    """Decoded images as they are."""
    images = arrays.images

    def blocks() -> Iterator[np.ndarray]:
        for first in range(0, len(images), _ROWS):
            yield np.ascontiguousarray(images[first : first + _ROWS])

    return Stored(arrays.labels, images.shape[1:], False, blocks)


def _blocks(
    split: Encoded, one: Callable[[EncodedImage], np.ndarray | bytes], what: str
) -> Iterator[np.ndarray | list[bytes]]:
    def several(images: Sequence[EncodedImage]) -> list[np.ndarray | bytes]:
        return [one(image) for image in images]

    with ThreadPoolExecutor(threads()) as pool, progress(len(split.labels), what) as advance:
        for chunk in split.chunks():
            pieces = [chunk[first : first + _PIECE] for first in range(0, len(chunk), _PIECE)]
            block = [image for piece in pool.map(several, pieces) for image in piece]
            if block:
                yield np.stack(block) if isinstance(block[0], np.ndarray) else block  # type: ignore[misc]
            advance(len(chunk))
