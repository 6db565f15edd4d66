"""A split in its stored form, one block of images at a time; and the two .npy files of the in-memory loader.

Blocks are raw pixels or JPEG files of one size, decoded in threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distcond.atomic_io import atomic_write
from distcond.data.dataset import Arrays, Dataset, EncodedImage, EncodedSplit, Split
from distcond.data.image_codec import decode_pixels, decode_stored_jpeg, decode_threads, encode_jpeg, require_pillow
from distcond.data.progress_bar import progress_bar

NPY_SUFFIXES = (".images.npy", ".labels.npy")
#: Images per block of decoded arrays, and per task of a decoding thread.
_BLOCK_SIZE = 1024
_TASK_SIZE = 16


@dataclass(frozen=True)
class StoredSplit:
    """The images of a split, all of one size.

    Attributes:
        labels: (N,) int64.
        shape: of an image, (H, W, 3).
        jpeg: whether the blocks are JPEG files.
        blocks: starts a pass over the images: arrays (n, H, W, 3) uint8, or lists of n JPEG files.
    """

    labels: np.ndarray
    shape: tuple[int, ...]
    jpeg: bool
    blocks: Callable[[], Iterator[np.ndarray | list[bytes]]]

    def pixels(self) -> Iterator[np.ndarray]:
        """The blocks as pixels. JPEG blocks are decoded: these are the stored images, not the originals."""
        if not self.jpeg:
            yield from (np.asarray(block) for block in self.blocks())
            return
        with ThreadPoolExecutor(decode_threads()) as pool:
            for block in self.blocks():
                yield np.stack(list(pool.map(decode_stored_jpeg, block)))


def to_stored_split(split: Split, dataset: Dataset, what: str) -> StoredSplit:
    """`split` in the format and size in which `dataset` stores it. `what` labels the progress bar.

    Raises (while blocks are read):
        ConfigError: an image is broken.
    """
    if isinstance(split, Arrays):
        return arrays_to_stored_split(split)
    require_pillow(what)
    side = dataset.side
    exact = split.side == side
    convert: Callable[[EncodedImage], np.ndarray | bytes]
    convert = (
        (lambda image: encode_jpeg(image, side)) if dataset.jpeg else (lambda image: decode_pixels(image, side, exact))
    )
    return StoredSplit(split.labels, (side, side, 3), dataset.jpeg, lambda: _converted_blocks(split, convert, what))


def arrays_to_stored_split(arrays: Arrays) -> StoredSplit:
    """Decoded images as they are."""
    images = arrays.images

    def blocks() -> Iterator[np.ndarray]:
        for first in range(0, len(images), _BLOCK_SIZE):
            yield np.ascontiguousarray(images[first : first + _BLOCK_SIZE])

    return StoredSplit(arrays.labels, images.shape[1:], False, blocks)


def _converted_blocks(
    split: EncodedSplit, convert: Callable[[EncodedImage], np.ndarray | bytes], what: str
) -> Iterator[np.ndarray | list[bytes]]:
    def convert_all(images: Sequence[EncodedImage]) -> list[np.ndarray | bytes]:
        return [convert(image) for image in images]

    with ThreadPoolExecutor(decode_threads()) as pool, progress_bar(len(split.labels), what) as advance:
        for chunk in split.chunks():
            tasks = [chunk[first : first + _TASK_SIZE] for first in range(0, len(chunk), _TASK_SIZE)]
            block = [image for images in pool.map(convert_all, tasks) for image in images]
            if block:
                yield np.stack(block) if isinstance(block[0], np.ndarray) else block  # type: ignore[misc]
            advance(len(chunk))


def write_arrays(folder: Path, split: str, content: StoredSplit) -> None:
    """Write a split into `folder` as decoded pixels, one block at a time."""
    images, labels = (folder / f"{split}{suffix}" for suffix in NPY_SUFFIXES)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(content.labels), *content.shape)}
    needed = len(content.labels) * math.prod(content.shape)
    with atomic_write(images, needed) as aside, open(aside, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in content.pixels():
            file.write(np.ascontiguousarray(block).data)
    with atomic_write(labels) as aside, open(aside, "wb") as file:
        np.save(file, content.labels)


def map_arrays(folder: Path, split: str) -> Arrays:
    """The split in `folder`, memory-mapped: the ranks of one machine share the pages."""
    # Copy-on-write, because torch warns about arrays that are not writable.
    return Arrays(*(np.load(folder / f"{split}{suffix}", mmap_mode="c") for suffix in NPY_SUFFIXES))
