"""The central part of larger images: what evaluation sees of images that training crops at random."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from distcond.data.source import RawBatch, Source


@dataclass(frozen=True)
class Central:
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


def whole(source: Source) -> Source:
    """The images of `source` before they are cut to their centre."""
    return source.whole if isinstance(source, Central) else source
