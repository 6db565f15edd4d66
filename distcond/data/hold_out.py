"""Which training images are held out for validation: a function of their labels alone, the same for ever."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from distcond.data.dataset import Arrays, Split
from distcond.errors import ConfigError
from distcond.seeding import key

Rows = slice | np.ndarray
#: Labels -> the rows that stay, and those held out, both ascending.
HoldOut = Callable[[np.ndarray], tuple[Rows, Rows]]


def last(share: Fraction) -> HoldOut:
    """Hold out the last `share` of the images, rounded down, at least one."""

    def rows(labels: np.ndarray) -> tuple[Rows, Rows]:
        count = len(labels) - max(1, int(len(labels) * share))
        return slice(0, count), slice(count, len(labels))

    return rows


def stratified(name: str, share: Fraction) -> HoldOut:
    """Hold out `share` of every class by a fixed draw that `name` keys; one image of each class stays."""

    def rows(labels: np.ndarray) -> tuple[Rows, Rows]:
        rng = np.random.Generator(np.random.PCG64(key(name, "split")))
        classes, counts = np.unique(labels, return_counts=True)
        held = np.minimum(quotas(counts, max(1, int(len(labels) * share))), counts - 1)
        chosen = [
            rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in zip(classes, held, strict=True)
        ]
        out = np.zeros(len(labels), dtype=bool)
        out[np.concatenate(chosen)] = True
        return np.flatnonzero(~out), np.flatnonzero(out)

    return rows


def quotas(counts: np.ndarray, total: int) -> np.ndarray:
    """Share `total` over the classes in proportion to `counts`; the largest remainders get what rounding left."""
    exact = counts * (total / counts.sum())
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: total - whole.sum()]] += 1
    return whole


def held_out(train: Split, hold_out: HoldOut) -> tuple[Split, Split]:
    """The training images that stay, and those for validation.

    Raises:
        ConfigError: too few images for that.
    """
    if len(train.labels) < 2:
        raise ConfigError("data.root: a single training image leaves nothing for validation; give at least 2")
    stay, held = hold_out(train.labels)
    if not len(train.labels[held]):
        raise ConfigError("data.root: no class has a second image to hold out for validation; give more, or a val/")
    return _taken(train, stay), _taken(train, held)


def _taken(split: Split, rows: Rows) -> Split:
    if isinstance(split, Arrays):
        return Arrays(split.images[rows], split.labels[rows])
    return split.rows(np.arange(len(split.labels))[rows])
