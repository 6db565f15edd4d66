"""Two sources as one: the images of a data set and extra ones behind them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distcond.data.source import RawBatch, Source


@dataclass(frozen=True)
class Mixed:
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
                place = _places(own).to(one[0].device, non_blocking=True)
                yield torch.cat([one[0], other[0]])[place], torch.cat([one[1], other[1]])[place]


def _places(own: np.ndarray) -> Tensor:
    """Where each row of a batch lies once those of the base come before the others."""
    return torch.from_numpy(np.where(own, own.cumsum() - 1, own.sum() + (~own).cumsum() - 1))
