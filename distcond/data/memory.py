"""The in-memory source: needs only torch, and on a GPU with room the whole split lives there."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor

from distcond.data.dataset import Arrays
from distcond.data.source import RawBatch, check_parts
from distcond.data.transfer import copied

#: A split may take this share of a GPU's free memory; the network and the attack need the rest.
GPU_SHARE = 0.25


class MemorySource:
    """`Source` over arrays; on the CPU it shares their memory (which may be a mapped file, shared by all ranks)."""

    def __init__(self, arrays: Arrays, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.image_size = int(arrays.images.shape[1])
        self.labels = arrays.labels
        home = self.device if _fits(arrays.images.nbytes, self.device) else torch.device("cpu")
        self._images = torch.from_numpy(arrays.images).to(home)
        self._labels = torch.from_numpy(arrays.labels).to(home)

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        check_parts(parts, len(self))
        if not parts:
            return
        # All indices travel at once: one copy per epoch to the GPU instead of one per step.
        order = copied(torch.from_numpy(np.concatenate(parts)), self._images.device)
        for rows in order.split([len(part) for part in parts]):
            yield self._here(self._images.index_select(0, rows)), self._here(self._labels.index_select(0, rows))

    def _here(self, x: Tensor) -> Tensor:
        return x if x.device.type == self.device.type else copied(x, self.device)


def _fits(num_bytes: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= GPU_SHARE * free
