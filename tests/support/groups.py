"""Parametrises tests over many methods: a few run in the quick group, all in the `cluster` group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from distcond.registry import table


def quick(*few: object, of: Iterable[object]) -> list[Any]:
    """Values for `pytest.mark.parametrize`: all except `few` are marked `cluster`. Tuples are values of several names.

    Raises:
        AssertionError: one of `few` is not in `of`.
    """
    every = list(of)
    assert set(few) <= set(every), few
    values = {value: value if isinstance(value, tuple) else (value,) for value in every}
    return [value if value in few else pytest.param(*values[value], marks=pytest.mark.cluster) for value in every]


def trained() -> list[str]:
    """The names of all methods that are trained."""
    return [name for name, method in table("method").items() if method.trains]
