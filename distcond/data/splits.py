"""Subsets of a split: images held out for validation, and the first N of a fixed order. Both depend on labels alone.

A budget (`train_examples`, every `eval.*_examples`) of 0, or of at least the size of the split, is the complete split
in stored order. A smaller N takes the first N of one fixed random order: every class once, then classes in proportion
to their size. A larger subset contains a smaller one, and every run on a data set takes the same images, whatever its
seed or loader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from distcond.data.dataset import Arrays, Split
from distcond.data.sources import CenterCrop, RawBatch, Source
from distcond.errors import ConfigError
from distcond.seeding import key

Rows = slice | np.ndarray
#: Labels (N,) -> rows to train on and rows to hold out, both ascending.
HoldOut = Callable[[np.ndarray], tuple[Rows, Rows]]


def hold_out_last(share: Fraction) -> HoldOut:
    """Hold out the last `share` of the images, rounded down, at least one."""

    def rows(labels: np.ndarray) -> tuple[Rows, Rows]:
        count = len(labels) - max(1, int(len(labels) * share))
        return slice(0, count), slice(count, len(labels))

    return rows


def hold_out_stratified(name: str, share: Fraction) -> HoldOut:
    """Hold out `share` of every class by a fixed random draw keyed by `name`. Each class keeps at least one image."""

    def rows(labels: np.ndarray) -> tuple[Rows, Rows]:
        rng = np.random.Generator(np.random.PCG64(key(name, "split")))
        classes, counts = np.unique(labels, return_counts=True)
        num_val = np.minimum(apportion_quotas(counts, max(1, int(len(labels) * share))), counts - 1)
        val_rows = [
            rng.permutation(np.flatnonzero(labels == label))[:count]
            for label, count in zip(classes, num_val, strict=True)
        ]
        is_val = np.zeros(len(labels), dtype=bool)
        is_val[np.concatenate(val_rows)] = True
        return np.flatnonzero(~is_val), np.flatnonzero(is_val)

    return rows


def apportion_quotas(counts: np.ndarray, total: int) -> np.ndarray:
    """Distribute `total` over classes in proportion to `counts`, by the largest-remainder method."""
    exact = counts * (total / counts.sum())
    rounded = np.floor(exact).astype(np.int64)
    rounded[np.argsort(rounded - exact, kind="stable")[: total - rounded.sum()]] += 1
    return rounded


def split_off_validation(train: Split, hold_out: HoldOut) -> tuple[Split, Split]:
    """Split `train` into training and validation images.

    Raises:
        ConfigError: there are too few images.
    """
    if len(train.labels) < 2:
        raise ConfigError("data.root: a single training image leaves nothing for validation; give at least 2")
    train_rows, val_rows = hold_out(train.labels)
    if not len(train.labels[val_rows]):
        raise ConfigError("data.root: no class has a second image to hold out for validation; give more, or a val/")
    return _select(train, train_rows), _select(train, val_rows)


def _select(split: Split, rows: Rows) -> Split:
    if isinstance(split, Arrays):
        return Arrays(split.images[rows], split.labels[rows])
    return split.select(np.arange(len(split.labels))[rows])


#: Images whose pixels enter the digest of a split.
_NUM_DIGEST_IMAGES = 32


@dataclass(frozen=True)
class Subset:
    """`Source` of the images of another source at `rows` (n,) int64, in that order."""

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


def take_subset(source: Source, count: int) -> Source:
    """The images of `source` that a budget of `count` takes; 0 means all."""
    if not count or count >= len(source):
        return source
    if isinstance(source, CenterCrop):  # stays outermost, where `uncropped` expects it
        return CenterCrop(take_subset(source.source, count), source.image_size)
    return Subset(source, stratified_order(source.labels)[:count])


def budget_rows(source: Source, count: int) -> np.ndarray:
    """The rows of `source` that a budget of `count` takes, (n,) int64; 0 means all, in stored order."""
    if not count or count >= len(source):
        return np.arange(len(source))
    return stratified_order(source.labels)[:count]


def stratified_order(labels: np.ndarray) -> np.ndarray:
    """The order (N,) int64 in which budgets take the rows of a split with `labels` (N,).

    The first image of every class comes first. Image j (from 0) of a class of n is then at position (j + 1/2) / n.
    Ties are broken at random.
    """
    labels = np.ascontiguousarray(labels, dtype=np.int64)
    draw = np.random.Generator(np.random.PCG64(key("subset", _digest(labels)))).permutation(len(labels))
    by_class = np.lexsort((draw, labels))
    _, begins, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    within = np.arange(len(labels)) - np.repeat(begins, counts)
    position = np.empty(len(labels))
    position[by_class] = np.where(within == 0, 0.0, (within + 0.5) / np.repeat(counts, counts))
    return np.lexsort((draw, position)).astype(np.int64)


def is_sorted_by_class(labels: np.ndarray) -> bool:
    """Whether images of one class are adjacent, so that the first rows of a split do not represent it."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    by_chance = float((shares**2).sum())
    return len(labels) > 1 and float((labels[1:] == labels[:-1]).mean()) > (1 + by_chance) / 2


def split_digest(source: Source) -> str:
    """16 hex digits that identify a split: from its labels and the pixels of 32 images spread over it.

    Files do not matter: the same images in another layout or loader have the same digest.
    """
    rows = np.unique(np.linspace(0, len(source) - 1, min(len(source), _NUM_DIGEST_IMAGES)).astype(np.int64))
    ((raw, _),) = source.read([rows])
    return _digest(np.ascontiguousarray(source.labels, dtype=np.int64), raw.cpu().numpy())


def image_set_digest(split: str, rows: np.ndarray) -> str:
    """12 hex digits of the images at `rows`, in any order, of the split with digest `split`: a row's `images`."""
    return _digest(np.frombuffer(split.encode(), dtype=np.uint8), np.sort(rows).astype(np.int64))[:12]


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
