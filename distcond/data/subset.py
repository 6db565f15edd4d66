"""Which images of a split a budget takes: the rule behind `train_examples` and every `eval.*_examples`.

0, or as many as there are, is the whole split in its stored order. A smaller N is the first N of one fixed random
order of the split, in which every class comes once before any comes twice, and from there on in proportion to its
size. So a subset holds every class where N allows it, a larger one contains a smaller one, and since the order is a
function of the split's labels alone, every run of a data set takes the same images, whatever its seed or its loader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from distcond.data.central import Central
from distcond.data.source import RawBatch, Source
from distcond.seeding import key

#: Images of a split that are looked at to tell it from others with the same labels.
_LOOKED_AT = 32


@dataclass(frozen=True)
class Subset:
    """`Source` over the images of another at `rows`, (n,) int64, in that order."""

    source: Source
    rows: np.ndarray

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.source.image_size

    @property
    def labels(self) -> np.ndarray:
        """See `Source.labels`."""
        return self.source.labels[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        return self.source.read([self.rows[part] for part in parts])


def subset(source: Source, count: int) -> Source:
    """The images of `source` that a budget of `count` takes; 0 means all."""
    if not count or count >= len(source):
        return source
    if isinstance(source, Central):  # stays the outer one: training looks behind it
        return Central(subset(source.whole, count), source.image_size)
    return Subset(source, stratified_order(source.labels)[:count])


def rows_of(source: Source, count: int) -> np.ndarray:
    """The rows of `source` that a budget of `count` takes, (n,) int64; 0 means all, in stored order."""
    if not count or count >= len(source):
        return np.arange(len(source))
    return stratified_order(source.labels)[:count]


def stratified_order(labels: np.ndarray) -> np.ndarray:
    """All rows of a split with `labels` (N,) in the order in which budgets take them, (N,) int64.

    Of a class of n images the j-th, from 0, stands at (j + 1/2) / n of the way, and its first before all that are not
    the first of theirs. Ties are broken at random.
    """
    labels = np.ascontiguousarray(labels, dtype=np.int64)
    draw = np.random.Generator(np.random.PCG64(key("subset", _digest(labels)))).permutation(len(labels))
    by_class = np.lexsort((draw, labels))
    _, begins, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    within = np.arange(len(labels)) - np.repeat(begins, counts)
    place = np.empty(len(labels))
    place[by_class] = np.where(within == 0, 0.0, (within + 0.5) / np.repeat(counts, counts))
    return np.lexsort((draw, place)).astype(np.int64)


def in_runs(labels: np.ndarray) -> bool:
    """Whether images of one class lie together, so that the first of a split say nothing of the others."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    by_chance = float((shares**2).sum())
    return len(labels) > 1 and float((labels[1:] == labels[:-1]).mean()) > (1 + by_chance) / 2


def split_digest(source: Source) -> str:
    """16 hex digits that tell a split from others: from its labels, and the pixels of some images spread over it.

    Not from its files: the same images in another layout, or read by the other loader, are the same split.
    """
    some = np.unique(np.linspace(0, len(source) - 1, min(len(source), _LOOKED_AT)).astype(np.int64))
    ((raw, _),) = source.read([some])
    return _digest(np.ascontiguousarray(source.labels, dtype=np.int64), raw.cpu().numpy())


def image_set(split: str, rows: np.ndarray) -> str:
    """12 hex digits of the images at `rows`, in any order, of the split with the digest `split`: a row's `images`."""
    return _digest(np.frombuffer(split.encode(), dtype=np.uint8), np.sort(rows).astype(np.int64))[:12]


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
