"""Sources of raw batches: index arrays in, uint8 images and labels out. The protocol, and all sources but FFCV's.

`MemorySource` needs only torch; a split that fits is held on the GPU. `CenterCrop` is what evaluation reads of images
that training crops at random. `MixedSource` appends extra images. Order, sharding and augmentation are in `loader`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from distcond.data.dataset import Arrays

#: One batch: (n, H, W, 3) uint8 and (n,) int64, both on the source's device, not overwritten later.
RawBatch = tuple[Tensor, Tensor]


class Source(Protocol):
    """One split of a data set, read by index."""

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""

    @property
    def labels(self) -> np.ndarray:
        """Labels of all images, (N,) int64."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """Yield one batch per index array, in order; an empty array gives a batch of 0 rows.

        Close or exhaust the generator to release its threads and buffers.
        """


def check_indices(parts: Sequence[np.ndarray], size: int) -> None:
    """Assert that every index is in [0, size): FFCV's compiled decoder does not check and reads foreign memory."""
    for part in parts:
        assert part.min(initial=0) >= 0, part.min()
        assert part.max(initial=0) < size, (part.max(), size)


def copy_to_device(x: Tensor, device: torch.device) -> Tensor:
    """A copy of the CPU tensor `x` on `device`; `x` may be overwritten as soon as this returns.

    Copies to a GPU go through pinned memory, so that they queue behind launched work instead of waiting for it. torch
    keeps the pinned block until the copy is done.
    """
    if device.type == "cpu":
        return x.clone()
    if device.type == "cuda":
        pinned = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        return pinned.copy_(x).to(device, non_blocking=True)
    return x.to(device)


#: Largest share of a GPU's free memory that a split may take; the network and the attack need the rest.
GPU_SHARE = 0.25


class MemorySource:
    """`Source` of arrays. On the CPU it shares their memory, which may be a mapped file shared by all ranks."""

    def __init__(self, arrays: Arrays, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.image_size = int(arrays.images.shape[1])
        self.labels = arrays.labels
        storage = self.device if _fits_on_device(arrays.images.nbytes, self.device) else torch.device("cpu")
        self._images = torch.from_numpy(arrays.images).to(storage)
        self._labels = torch.from_numpy(arrays.labels).to(storage)

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        check_indices(parts, len(self))
        if not parts:
            return
        # All indices at once: one copy to the GPU per epoch instead of one per step.
        order = copy_to_device(torch.from_numpy(np.concatenate(parts)), self._images.device)
        for rows in order.split([len(part) for part in parts]):
            yield self._move(self._images.index_select(0, rows)), self._move(self._labels.index_select(0, rows))

    def _move(self, x: Tensor) -> Tensor:
        return x if x.device.type == self.device.type else copy_to_device(x, self.device)


def _fits_on_device(num_bytes: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= GPU_SHARE * free


@dataclass(frozen=True)
class CenterCrop:
    """`Source` of the central `image_size` x `image_size` pixels of another source's images."""

    source: Source
    image_size: int

    @property
    def labels(self) -> np.ndarray:
        """See `Source.labels`."""
        return self.source.labels

    def __len__(self) -> int:
        return len(self.source)

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        first = (self.source.image_size - self.image_size) // 2
        crop = slice(first, first + self.image_size)
        with closing(self.source.read(parts)) as batches:
            for x, y in batches:
                yield x[:, crop, crop].contiguous(), y


def strip_center_crop(source: Source) -> Source:
    """The source behind a `CenterCrop`; any other source as it is."""
    return source.source if isinstance(source, CenterCrop) else source


@dataclass(frozen=True)
class MixedSource:
    """`Source` in which index `len(base) + i` is image i of `extra`. Its length and labels are those of `base`."""

    base: Source
    extra: Source

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.base.image_size

    @property
    def labels(self) -> np.ndarray:
        """Labels of `base`, (N,) int64."""
        return self.base.labels

    def __len__(self) -> int:
        return len(self.base)

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        from_base = [part < len(self.base) for part in parts]
        base = self.base.read([part[mask] for part, mask in zip(parts, from_base, strict=True)])
        extra = self.extra.read([part[~mask] - len(self.base) for part, mask in zip(parts, from_base, strict=True)])
        with closing(base), closing(extra):
            for mask, (x_base, y_base), (x_extra, y_extra) in zip(from_base, base, extra, strict=True):
                rows = _interleaved_rows(mask).to(x_base.device, non_blocking=True)
                yield torch.cat([x_base, x_extra])[rows], torch.cat([y_base, y_extra])[rows]


def _interleaved_rows(from_base: np.ndarray) -> Tensor:
    """Each row's index in the concatenation of base and extra rows."""
    return torch.from_numpy(np.where(from_base, from_base.cumsum() - 1, from_base.sum() + (~from_base).cumsum() - 1))
