"""What a data set is: a value that says how to read and how to recognise its images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distcond.data.labels import NATURAL
from distcond.errors import ConfigError

#: Every data set has these three, and training looks at "test" only at the very end.
SPLITS = ("train", "val", "test")


class Arrays(NamedTuple):
    """One split in memory."""

    images: np.ndarray  # (N, H, W, 3) uint8
    labels: np.ndarray  # (N,) int64


class EncodedImage(NamedTuple):
    """One image as it lies in a file: JPEG, PNG, WebP ..."""

    data: bytes | Path
    name: str  # for error messages

    def read(self) -> bytes:
        """Its bytes; raises OSError."""
        return self.data if isinstance(self.data, bytes) else self.data.read_bytes()


class EncodedSplit(NamedTuple):
    """One split that is decoded when it is written, a chunk at a time: it need not fit into memory."""

    labels: np.ndarray  # (N,) int64
    chunks: Callable[[], Iterator[Sequence[EncodedImage]]]  # all N images in order, from the start at every call
    side: int = 0  # what every image measures, as the data set is published; 0 = any size
    one: Callable[[int], EncodedImage] | None = None  # the image of a row, where that needs no others

    def rows(self, rows: np.ndarray) -> EncodedSplit:
        """The images at the ascending `rows`."""
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
    """Random changes of a training image.

    Attributes:
        pad: shift by up to so many pixels; zeros come in.
        flip: mirror it left to right, or not.
        rotate: turn it by up to so many degrees either way; zeros come in.
        crop: cut out a part between these shares of its area, of an aspect of 3/4 to 4/3, and scale that to the size
            of the network's images (Szegedy et al. 2015). Comes instead of the shift.
    """

    pad: int = 0
    flip: bool = False
    rotate: float = 0.0
    crop: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        assert self.pad >= 0 and self.rotate >= 0, (self.pad, self.rotate)
        assert self.crop is None or 0 < self.crop[0] <= self.crop[1] <= 1, self.crop


class InferredSizes(NamedTuple):
    """What a data set does not know of itself, as a root has it."""

    num_classes: int
    image_size: int


def _no_lines(root: str) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Dataset:
    """A labelled set of square colour images.

    Attributes:
        num_classes: 0 = found in the root (`found`).
        image_size: side of the network's images; 0 = found in the root.
        mean, std: of the training images per channel, pixels in [0, 1]; the model normalises, the loader does not.
        augment: what training applies.
        splits: the published number of images in "train", "val", "test"; a smaller copy is fine.
        read: root folder -> the three splits, always in the same order.
        fingerprint: root folder -> 16 hex digits that identify the content, without decoding it.
            Both raise ConfigError naming `data.root` where the root does not hold the data set.
        any_size: whether `data.image_size` may ask for another size; `read` then gives `EncodedSplit`.
        stored_size: side at which images are stored; 0 = image_size. Where it is larger, they are stored as JPEG,
            training crops them at random and evaluation takes their centre.
        found: root folder -> what is 0 here.
        classes: root folder -> the names of the classes in the order of their numbers; empty where they have none.
        notes: root folder -> lines on what lies there and is not read.
        class_order: how folders and words are numbered, see `distcond.data.labels`.
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
    found: Callable[[str], InferredSizes] | None = None
    classes: Callable[[str], Sequence[str]] = _no_lines
    class_order: str = NATURAL
    notes: Callable[[str], Sequence[str]] = _no_lines

    @property
    def side(self) -> int:
        """Side of the stored images."""
        return self.stored_size or self.image_size

    @property
    def jpeg(self) -> bool:
        """Whether images are stored as JPEG."""
        return self.side > self.image_size


def check_arrays(arrays: Arrays, what: str) -> None:
    """Both loaders hold 3-channel uint8 images of one size with one integer label each, and at least one of them.

    Raises:
        ConfigError: `arrays` is anything else.
    """
    images, labels = arrays
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise ConfigError(f"{what}: images are {images.dtype} {images.shape}; both loaders hold uint8 (N, H, W, 3)")
    if labels.shape != images.shape[:1] or labels.dtype != np.int64:
        raise ConfigError(f"{what}: labels are {labels.dtype} {labels.shape}; needed: int64 ({len(images)},)")


def check_labels(labels: np.ndarray, num_classes: int, what: str) -> None:
    """Labels are classes, 0 to num_classes - 1.

    Raises:
        ConfigError: one is not; the message begins with `what`.
    """
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= num_classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        row = int(np.flatnonzero(labels == wrong)[0])
        raise ConfigError(f"{what}: labels reach {wrong}; needed: 0 to {num_classes - 1}; see row {row}")
