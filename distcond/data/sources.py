"""Sources of raw batches: index arrays in, uint8 images and labels out. The contract, and all sources but FFCV's.

`MemorySource` needs only torch, and on a GPU with room the whole split lives there; `CenterCrop` is what evaluation
sees of images that training crops at random; `MixedSource` is a data set with extra images behind it. Order, shards
and augmentation are shared code (`loader`).
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


def check_indices(parts: Sequence[np.ndarray], size: int) -> None:
    """Every index lies in [0, size). Out of range, FFCV's compiled decoder reads foreign memory or crashes."""
    for part in parts:
        assert part.min(initial=0) >= 0, part.min()
        assert part.max(initial=0) < size, (part.max(), size)


def copy_to_device(x: Tensor, device: torch.device) -> Tensor:
    """A fresh copy of the CPU tensor `x` on `device`; `x` may be overwritten as soon as this returns.

    To a GPU it goes through pinned memory, so that the copy queues behind the work already launched instead of
    waiting for it. (torch keeps the pinned block until the copy is done.)
    """
    if device.type == "cpu":
        return x.clone()
    if device.type == "cuda":
        pinned = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        return pinned.copy_(x).to(device, non_blocking=True)
    return x.to(device)


#: A split may take this share of a GPU's free memory; the network and the attack need the rest.
GPU_SHARE = 0.25


class MemorySource:
    """`Source` over arrays; on the CPU it shares their memory (which may be a mapped file, shared by all ranks)."""

    def __init__(self, arrays: Arrays, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.image_size = int(arrays.images.shape[1])
        self.labels = arrays.labels
        home = self.device if _fits_on_device(arrays.images.nbytes, self.device) else torch.device("cpu")
        self._images = torch.from_numpy(arrays.images).to(home)
        self._labels = torch.from_numpy(arrays.labels).to(home)

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        check_indices(parts, len(self))
        if not parts:
            return
        # All indices travel at once: one copy per epoch to the GPU instead of one per step.
        order = copy_to_device(torch.from_numpy(np.concatenate(parts)), self._images.device)
        for rows in order.split([len(part) for part in parts]):
            yield self._here(self._images.index_select(0, rows)), self._here(self._labels.index_select(0, rows))

    def _here(self, x: Tensor) -> Tensor:
        return x if x.device.type == self.device.type else copy_to_device(x, self.device)


def _fits_on_device(num_bytes: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= GPU_SHARE * free


@dataclass(frozen=True)
class CenterCrop:
    """`Source` over the central `image_size` x `image_size` pixels of the images of another."""

    whole: Source
    image_size: int

    @property
    def labels(self) -> np.ndarray:
        """See `Source.labels`."""
        return self.whole.labels

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        first = (self.whole.image_size - self.image_size) // 2
        rows = slice(first, first + self.image_size)
        with closing(self.whole.read(parts)) as batches:
            for x, y in batches:
                yield x[:, rows, rows].contiguous(), y


def uncropped(source: Source) -> Source:
    """The images of `source` before they are cut to their centre."""
    return source.whole if isinstance(source, CenterCrop) else source


@dataclass(frozen=True)
class MixedSource:
    """`Source` whose indices from `len(base)` on are those of `extra`. Its own length is that of `base`."""

    base: Source
    extra: Source

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.base.image_size

    @property
    def labels(self) -> np.ndarray:
        """Those of `base`: see `Source.labels`."""
        return self.base.labels

    def __len__(self) -> int:
        return len(self.base)

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        ours = [part < len(self.base) for part in parts]
        base = self.base.read([part[own] for part, own in zip(parts, ours, strict=True)])
        extra = self.extra.read([part[~own] - len(self.base) for part, own in zip(parts, ours, strict=True)])
        with closing(base), closing(extra):
            for own, one, other in zip(ours, base, extra, strict=True):
                place = _interleaved_rows(own).to(one[0].device, non_blocking=True)
                yield torch.cat([one[0], other[0]])[place], torch.cat([one[1], other[1]])[place]


def _interleaved_rows(own: np.ndarray) -> Tensor:
    """Where each row of a batch lies once those of the base come before the others."""
    return torch.from_numpy(np.where(own, own.cumsum() - 1, own.sum() + (~own).cumsum() - 1))
