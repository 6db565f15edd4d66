"""Labels as files have them become class numbers, by one rule; what it does not cover is refused by row.

Whole numbers are the numbers of the classes, whatever type they have: 3, 3.0, true for 1. Words are classes by name,
numbered as folders are (`class_names`): in the order of the numbers in them and then of the alphabet. Anything else
(nothing, 0.5, not a number) is no label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from distcond.errors import ConfigError

#: Wholes above this are no class numbers, and float64 does not hold all of them.
_LARGEST = 1 << 31


def numbers_of(values: np.ndarray, what: str, first: int = 0) -> np.ndarray:
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


def words_of(values: Sequence[object], what: str, first: int = 0) -> list[str]:
    """The words, none of them missing or empty.

    Raises:
        ConfigError: one is; the message names `what` and the row.
    """
    for row, value in enumerate(values, first):
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{what}, row {row}: the label is {value!r}; needed: the name of a class")
    return [str(value) for value in values]


def numbered(words: Sequence[str], classes: Mapping[str, int], what: str) -> np.ndarray:
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
