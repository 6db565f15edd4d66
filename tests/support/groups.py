"""One behaviour over many methods: a few of them, one for each mechanism, in the quick group, all in the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from distcond.registry import table


def quick(*few: object, of: Iterable[object]) -> list[Any]:
    """Values for `pytest.mark.parametrize`: all but `few` are marked `cluster`; tuples are for several names.

    Raises:
        AssertionError: one of the few is not among the others.
    """
    every = list(of)
    assert set(few) <= set(every), few
    values = {value: value if isinstance(value, tuple) else (value,) for value in every}
    return [value if value in few else pytest.param(*values[value], marks=pytest.mark.cluster) for value in every]


def trained() -> list[str]:
    """The methods that there is something to train of."""
    return [name for name, method in table("method").items() if method.trains]
