"""The contract of a loader: index arrays in, raw batches out. Order, shards and augmentation are shared code."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

#: One batch: (n, H, W, 3) uint8 and (n,) int64, both on the source's device and the caller's to keep.
RawBatch = tuple[Tensor, Tensor]


class Source(Protocol):
    """One split of a data set, read by index."""

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""

    @property
    def labels(self) -> np.ndarray:
        """The class of every image, (N,) int64."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """Yield one batch per index array, in order; an empty array gives a batch of 0 rows.

        Close the generator (or exhaust it) to release what it holds.
        """


def check_parts(parts: Sequence[np.ndarray], size: int) -> None:
    """Every index lies in [0, size). Out of range, FFCV's compiled decoder reads foreign memory or crashes."""
    for part in parts:
        assert part.min(initial=0) >= 0, part.min()
        assert part.max(initial=0) < size, (part.max(), size)
