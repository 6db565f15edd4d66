"""Class indices: of the names of folders, of words, and of numbers as files have them; the same on every machine.

In "natural" order the numbers in a name come first: 2 before 10, cat before dog. In "lexicographic" order, that of
torchvision, names are compared letter by letter: 10 before 2. `data.class_order` says which. Whole numbers are class
indices whatever type they have (3, 3.0, true for 1); words are classes by name, in natural order; anything else
(nothing, 0.5, not a number) is refused by row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from distcond.errors import ConfigError

NATURAL: Final = "natural"
LEXICOGRAPHIC: Final = "lexicographic"


def assign_class_indices(names: Iterable[str]) -> dict[str, int]:
    """Name -> number from 0 in natural order: by the numbers in the names and then by the names."""
    return {name: number for number, name in enumerate(sorted(names, key=lambda name: (numbers_in_name(name), name)))}


def numbers_in_name(name: str) -> list[int]:
    """The whole numbers in a name."""
    return [int(digits) for digits in re.findall(r"[0-9]+", name)]


def order_names(names: Sequence[str], order: str) -> tuple[str, ...]:
    """Names that stand in their own order, in `order`."""
    return tuple(sorted(names) if order == LEXICOGRAPHIC else names)


def reorder_labels(labels: np.ndarray, names: Sequence[str], order: str) -> np.ndarray:
    """Labels (N,) by the own order of `names` as labels by `order`."""
    if order != LEXICOGRAPHIC:
        return labels
    places = {name: number for number, name in enumerate(sorted(names))}
    return np.array([places[name] for name in names], dtype=np.int64)[labels]


def orders_differ(names: Sequence[str]) -> bool:
    """Whether the two orders number the names differently."""
    return list(names) != sorted(names)


#: Wholes above this are no class numbers, and float64 does not hold all of them.
_LARGEST = 1 << 31


def parse_class_indices(values: np.ndarray, what: str, first: int = 0) -> np.ndarray:
    """Class numbers (N,) int64 of whole numbers of any type. The first is row `first` of `what`.

    Raises:
        ConfigError: one is not whole; the message names `what` and the row.
    """
    if values.ndim != 1:
        raise ConfigError(f"{what}: labels are of shape {values.shape}; needed: one number per image, ({len(values)},)")
    if values.dtype.kind not in "iubf":
        _refuse(values, np.zeros(len(values), dtype=bool), what, first)
        return np.zeros(0, dtype=np.int64)
    wide = values.astype(np.float64)
    _refuse(values, np.isfinite(wide) & (wide == np.floor(wide)) & (np.abs(wide) < _LARGEST), what, first)
    return values.astype(np.int64)


def parse_class_words(values: Sequence[object], what: str, first: int = 0) -> list[str]:
    """The words, none of them missing or empty.

    Raises:
        ConfigError: one is; the message names `what` and the row.
    """
    for row, value in enumerate(values, first):
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{what}, row {row}: the label is {value!r}; needed: the name of a class")
    return [str(value) for value in values]


def index_words(words: Sequence[str], classes: Mapping[str, int], what: str) -> np.ndarray:
    """Class numbers (N,) int64 of words.

    Raises:
        ConfigError: a word is no class; the message names `what` and the row.
    """
    for row, word in enumerate(words):
        if word not in classes:
            raise ConfigError(f"{what}, row {row}: the label is {word!r}, which the training images do not have")
    return np.array([classes[word] for word in words], dtype=np.int64)


def _refuse(values: np.ndarray, good: np.ndarray, what: str, first: int) -> None:
    if good.all():
        return
    row = int(np.flatnonzero(~good)[0])
    value = values[row].item() if isinstance(values[row], np.generic) else values[row]
    raise ConfigError(f"{what}, row {first + row}: the label is {value!r}; needed: a whole number from 0, or words")
