"""Classes numbered by the names of their folders, the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Iterable


def class_numbers(names: Iterable[str]) -> dict[str, int]:
    """Name -> number from 0, ordered by the numbers in the names and then by the names: 2 before 10, cat before dog."""
    return {name: number for number, name in enumerate(sorted(names, key=lambda name: (numbers(name), name)))}


def numbers(name: str) -> list[int]:
    """The whole numbers in a name."""
    return [int(digits) for digits in re.findall(r"[0-9]+", name)]
