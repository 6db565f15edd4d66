"""Class indices from folder names, label words and label numbers, the same on every machine.

`data.class_order` chooses the order of names. "natural" compares the numbers in names first: 2 before 10, cat before
dog. "lexicographic", torchvision's order, compares character by character: 10 before 2. Whole numbers of any type (3,
3.0, true for 1) are class indices, words are class names; anything else (missing, 0.5, NaN) is refused by row.
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
    """Name -> index from 0 in natural order: by the numbers in the names, then by the names."""
    return {name: number for number, name in enumerate(sorted(names, key=lambda name: (numbers_in_name(name), name)))}


def numbers_in_name(name: str) -> list[int]:
    """The integers in a name, in order."""
    return [int(digits) for digits in re.findall(r"[0-9]+", name)]


def order_names(names: Sequence[str], order: str) -> tuple[str, ...]:
    """`names`, which are in natural order, in `order`."""
    return tuple(sorted(names) if order == LEXICOGRAPHIC else names)


def reorder_labels(labels: np.ndarray, names: Sequence[str], order: str) -> np.ndarray:
    """Labels (N,) that index `names`, as indices of `order_names(names, order)`."""
    if order != LEXICOGRAPHIC:
        return labels
    index = {name: number for number, name in enumerate(sorted(names))}
    return np.array([index[name] for name in names], dtype=np.int64)[labels]


def orders_differ(names: Sequence[str]) -> bool:
    """Whether natural and lexicographic order number these names, given in natural order, differently."""
    return list(names) != sorted(names)


#: Larger numbers are no class indices, and float64 does not represent all of them.
_LARGEST = 1 << 31


def parse_class_indices(values: np.ndarray, what: str, first: int = 0) -> np.ndarray:
    """Class indices (N,) int64 from whole numbers of any type. The first is row `first` of `what`.

    Raises:
        ConfigError: a value is not whole; the message names `what` and the row.
    """
    if values.ndim != 1:
        raise ConfigError(f"{what}: labels are of shape {values.shape}; needed: one number per image, ({len(values)},)")
    if values.dtype.kind not in "iubf":
        _refuse_invalid(values, np.zeros(len(values), dtype=bool), what, first)
        return np.zeros(0, dtype=np.int64)
    wide = values.astype(np.float64)
    _refuse_invalid(values, np.isfinite(wide) & (wide == np.floor(wide)) & (np.abs(wide) < _LARGEST), what, first)
    return values.astype(np.int64)


def parse_class_names(values: Sequence[object], what: str, first: int = 0) -> list[str]:
    """Class names, none of them missing or empty. The first is row `first` of `what`.

    Raises:
        ConfigError: one is; the message names `what` and the row.
    """
    for row, value in enumerate(values, first):
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{what}, row {row}: the label is {value!r}; needed: the name of a class")
    return [str(value) for value in values]


def index_class_names(names: Sequence[str], classes: Mapping[str, int], what: str) -> np.ndarray:
    """Class indices (N,) int64 of class names.

    Raises:
        ConfigError: a name is no class; the message names `what` and the row.
    """
    for row, name in enumerate(names):
        if name not in classes:
            raise ConfigError(f"{what}, row {row}: the label is {name!r}, which the training images do not have")
    return np.array([classes[name] for name in names], dtype=np.int64)


def _refuse_invalid(values: np.ndarray, valid: np.ndarray, what: str, first: int) -> None:
    if valid.all():
        return
    row = int(np.flatnonzero(~valid)[0])
    value = values[row].item() if isinstance(values[row], np.generic) else values[row]
    raise ConfigError(f"{what}, row {first + row}: the label is {value!r}; needed: a whole number from 0, or words")
