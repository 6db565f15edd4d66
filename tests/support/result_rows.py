"""Fixtures: result rows like those of a real run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from distcond.results.row import Row

PGD = {
    "attack": "pgd", "norm": "Linf", "epsilon": 8 / 255, "step_size": 2 / 255, "num_steps": 20, "restarts": 1,
    "random_start": 1,
}  # fmt: skip


def _row(**changes: Any) -> Row:
    base: dict[str, Any] = {
        "run_id": "float-1a2b", "epoch": 29, "step": 11700, "split": "test", "checkpoint": "best", "lam": 0.0,
        "method": "float", "model": "resnet34", "dataset": "cifar10", "seed": 0, "num_correct": 9431,
        "num_examples": 10000,
    }  # fmt: skip
    return Row(**base | changes)


@pytest.fixture(scope="session")
def make_row() -> Callable[..., Row]:
    """`make_row(**changes)`: a row, by default an SA row of a test evaluation."""
    return _row


@pytest.fixture(scope="session")
def make_sweep() -> Callable[..., list[Row]]:
    """`make_sweep(grid, n, **changes)`: the SA and PGD-20 rows of a lam grid."""

    def sweep(grid: Iterable[float] = (0.0, 0.2, 1.0), n: int = 10000, **changes: Any) -> list[Row]:
        rows = []
        for lam in grid:
            sa, ra = round(n * (0.9431 - 0.08 * lam)), round(n * (0.02 + 0.5 * lam**0.5))
            common = {"lam": lam, "num_examples": n} | changes
            rows += [_row(num_correct=sa, **common), _row(num_correct=ra, **PGD, **common)]
        return rows

    return sweep
