from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import support.on_disk
from distcond.data.dataset import Arrays
from distcond.data.ffcv.source import FfcvSource, ffcv_problem
from distcond.data.ffcv.writer import write_beton
from distcond.data.sources import MemorySource, Source

MakeSource = Callable[[str, Arrays], Source]


@pytest.fixture(scope="session")
def make_arrays() -> Callable[..., Arrays]:
    """Random images of `n` rows; the label is the row, so that a batch says which rows it holds."""

    def make(n: int, size: int = 8) -> Arrays:
        images = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
        return Arrays(images, np.arange(n, dtype=np.int64))

    return make


@pytest.fixture(scope="session")
def on_disk() -> Any:
    """The module `support.on_disk`."""
    return support.on_disk


@pytest.fixture
def needs_ffcv() -> None:
    problem = ffcv_problem()
    if problem is not None:
        pytest.skip(f"FFCV does not import: {problem}")


@pytest.fixture
def make_source(tmp_path: Path) -> MakeSource:
    def make(kind: str, arrays: Arrays) -> Source:
        if kind == "memory":
            return MemorySource(arrays)
        problem = ffcv_problem()
        if problem is not None:
            pytest.skip(f"FFCV does not import: {problem}")
        path = tmp_path / f"{len(arrays.labels)}.beton"
        write_beton(path, arrays)
        return FfcvSource(path)

    return make
