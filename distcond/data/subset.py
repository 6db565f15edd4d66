"""The first images of a source, for budgets smaller than a data set."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from distcond.data.central import Central
from distcond.data.source import RawBatch, Source


@dataclass(frozen=True)
class First:
    """`Source` over the first `count` images of another."""

    source: Source
    count: int

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.source.image_size

    def __len__(self) -> int:
        return min(self.count, len(self.source))

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        return self.source.read(parts)


def first(source: Source, count: int) -> Source:
    """The first `count` images of `source`; 0 means all."""
    if isinstance(source, Central):  # stays the outer one: training looks behind it
        return Central(first(source.whole, count), source.image_size)
    return First(source, count) if count else source
