"""The `Dataset` value: how one data set is read, recognised and augmented; and the forms its splits take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distcond.data.labels import NATURAL
from distcond.errors import ConfigError

#: Every data set has these three. Training evaluates on "test" only once, at the end.
SPLITS = ("train", "val", "test")


class Arrays(NamedTuple):
    """One split in memory."""

    images: np.ndarray  # (N, H, W, 3) uint8
    labels: np.ndarray  # (N,) int64


class EncodedImage(NamedTuple):
    """One image in its file format: JPEG, PNG, WebP ..."""

    data: bytes | Path
    name: str  # for error messages

    def read(self) -> bytes:
        """The bytes of the file; raises OSError."""
        return self.data if isinstance(self.data, bytes) else self.data.read_bytes()


class EncodedSplit(NamedTuple):
    """One split of encoded images, decoded in chunks during conversion: it need not fit into memory."""

    labels: np.ndarray  # (N,) int64
    chunks: Callable[[], Iterator[Sequence[EncodedImage]]]  # all N images in order; each call starts from the first
    side: int = 0  # side in pixels of every image as published; 0 = any size
    image_at: Callable[[int], EncodedImage] | None = None  # random access by row; None where the format has none

    def select(self, rows: np.ndarray) -> EncodedSplit:
        """The images at the ascending `rows` (n,)."""
        kept = np.zeros(len(self.labels), dtype=bool)
        kept[rows] = True

        def chunks() -> Iterator[Sequence[EncodedImage]]:
            first = 0
            for chunk in self.chunks():
                yield [image for image, keep in zip(chunk, kept[first : first + len(chunk)], strict=True) if keep]
                first += len(chunk)

        return EncodedSplit(self.labels[rows], chunks, self.side)


Split = Arrays | EncodedSplit


@dataclass(frozen=True)
class Augment:
    """Random augmentation of training images.

    Attributes:
        pad: shift by at most this many pixels, filled with zeros.
        flip: mirror horizontally with probability 1/2.
        rotate: rotate by at most this many degrees either way, filled with zeros.
        crop: range of area shares of a random resized crop with an aspect ratio in [3/4, 4/3] (Szegedy et al. 2015).
            Replaces the shift.
    """

    pad: int = 0
    flip: bool = False
    rotate: float = 0.0
    crop: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        assert self.pad >= 0 and self.rotate >= 0, (self.pad, self.rotate)
        assert self.crop is None or 0 < self.crop[0] <= self.crop[1] <= 1, self.crop


class InferredSizes(NamedTuple):
    """Sizes that only the files of a root determine."""

    num_classes: int
    image_size: int


def _no_lines(root: str) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Dataset:
    """A labelled set of square colour images.

    Functions of a root raise ConfigError naming `data.root` if the root does not hold the data set. A data set of files
    gets its functions from `readers.layout.with_layouts`.

    Attributes:
        num_classes: number of classes; 0 = inferred from the root.
        image_size: side of the network's images in pixels; 0 = inferred from the root.
        mean, std: per channel of the training images, pixels in [0, 1]. The model normalises, the loader does not.
        augment: augmentation in training.
        splits: published number of images in "train", "val", "test"; a smaller copy is fine.
        read: root -> the three splits, always in the same order.
        fingerprint: root -> 16 hex digits that identify the content, without decoding it.
        any_size: whether `data.image_size` may ask for another size; `read` then returns `EncodedSplit`.
        stored_size: side of the stored images; 0 = image_size. Larger images are stored as JPEG; training takes random
            crops of them, evaluation the centre.
        infer_sizes: root -> the sizes that are 0 here.
        classes: root -> class names in the order of their labels; empty if the files do not name them.
        notes: root -> lines about files that are ignored.
        class_order: how class names are numbered, see `distcond.data.labels`.
    """

    name: str
    summary: str
    num_classes: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: Augment
    splits: Mapping[str, int]
    read: Callable[[str], Mapping[str, Split]]
    fingerprint: Callable[[str], str]
    any_size: bool = False
    stored_size: int = 0
    infer_sizes: Callable[[str], InferredSizes] | None = None
    classes: Callable[[str], Sequence[str]] = _no_lines
    class_order: str = NATURAL
    notes: Callable[[str], Sequence[str]] = _no_lines

    @property
    def side(self) -> int:
        """Side of the stored images in pixels."""
        return self.stored_size or self.image_size

    @property
    def jpeg(self) -> bool:
        """Whether images are stored as JPEG."""
        return self.side > self.image_size


def check_arrays(arrays: Arrays, what: str) -> None:
    """Check that images are uint8 (N, H, W, 3) with N > 0 and labels int64 (N,), which both loaders need.

    Raises:
        ConfigError: they are not; the message begins with `what`.
    """
    images, labels = arrays
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise ConfigError(f"{what}: images are {images.dtype} {images.shape}; both loaders need uint8 (N, H, W, 3)")
    if labels.shape != images.shape[:1] or labels.dtype != np.int64:
        raise ConfigError(f"{what}: labels are {labels.dtype} {labels.shape}; needed: int64 ({len(images)},)")


def check_labels(labels: np.ndarray, num_classes: int, what: str) -> None:
    """Check that labels are in [0, num_classes).

    Raises:
        ConfigError: one is not; the message begins with `what`.
    """
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= num_classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        row = int(np.flatnonzero(labels == wrong)[0])
        raise ConfigError(f"{what}: labels reach {wrong}; needed: 0 to {num_classes - 1}; see row {row}")
