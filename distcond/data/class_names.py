"""Classes numbered by the names of their folders, or by their words, the same on every machine.

In "natural" order the numbers in a name come first: 2 before 10, cat before dog. In "lexicographic" order, that of
torchvision, names are compared letter by letter: 10 before 2. `data.class_order` says which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

NATURAL: Final = "natural"
LEXICOGRAPHIC: Final = "lexicographic"


def class_numbers(names: Iterable[str]) -> dict[str, int]:
    """Name -> number from 0 in natural order: by the numbers in the names and then by the names."""
    return {name: number for number, name in enumerate(sorted(names, key=lambda name: (numbers(name), name)))}


def numbers(name: str) -> list[int]:
    """The whole numbers in a name."""
    return [int(digits) for digits in re.findall(r"[0-9]+", name)]


def in_order(names: Sequence[str], order: str) -> tuple[str, ...]:
    """Names that stand in their own order, in `order`."""
    return tuple(sorted(names) if order == LEXICOGRAPHIC else names)


def renumbered(labels: np.ndarray, names: Sequence[str], order: str) -> np.ndarray:
    """Labels (N,) by the own order of `names` as labels by `order`."""
    if order != LEXICOGRAPHIC:
        return labels
    places = {name: number for number, name in enumerate(sorted(names))}
    return np.array([places[name] for name in names], dtype=np.int64)[labels]


def both_orders(names: Sequence[str]) -> bool:
    """Whether the two orders number the names differently."""
    return list(names) != sorted(names)
