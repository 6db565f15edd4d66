"""Two runs that must be the same, bit for bit: their last checkpoints, and what was counted on test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from distcond.results.store import read_rows
from distcond.runs.checkpoint import latest


def same_end(one: Path, other: Path) -> None:
    """Assert that the runs in both directories came to the same end."""
    assert checkpoint(one) == checkpoint(other)
    assert counts(one) == counts(other)


def checkpoint(run: Path) -> dict[str, Any]:
    """Everything in the last checkpoint but the method's name, as values that compare."""
    last, found = latest(run / "checkpoints"), {}
    assert last is not None
    for file in sorted(last.iterdir()):
        state = torch.load(file, weights_only=True)
        state.pop("method", None)
        found[file.name] = _plain(state)
    return {last.name: found}


def counts(run: Path) -> list[tuple[Any, ...]]:
    return sorted(
        (row.checkpoint, row.lam, row.attack, row.num_correct) for row in read_rows(run) if row.split == "test"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
