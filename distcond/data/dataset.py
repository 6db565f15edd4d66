"""What a data set is: a value that says how to read and how to recognise its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from distcond.errors import ConfigError

#: Every data set has these three, and training looks at "test" only at the very end.
SPLITS = ("train", "val", "test")


class Arrays(NamedTuple):
    """One split in memory."""

    images: np.ndarray  # (N, H, W, 3) uint8
    labels: np.ndarray  # (N,) int64


@dataclass(frozen=True)
class Augment:
    """Random changes of a training image: a shift by up to `pad` pixels (zeros come in), and a horizontal flip."""

    pad: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        assert self.pad >= 0, self.pad


@dataclass(frozen=True)
class Dataset:
    """A labelled set of square colour images.

    Attributes:
        mean, std: of the training images per channel, pixels in [0, 1]; the model normalises, the loader does not.
        augment: what training applies.
        splits: the published number of images in "train", "val", "test"; a smaller copy is fine.
        read: root folder -> the arrays of the three splits, always in the same order. Decodes everything.
        fingerprint: root folder -> 16 hex digits that identify the content, without decoding it.
            Both raise ConfigError naming `data.root` where the root does not hold the data set.
    """

    name: str
    summary: str
    num_classes: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: Augment
    splits: Mapping[str, int]
    read: Callable[[str], Mapping[str, Arrays]]
    fingerprint: Callable[[str], str]


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
