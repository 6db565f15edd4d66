"""Whether two runs are the same, bit for bit: last checkpoints, histories and rows. Tests reach it by a fixture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distcond.results import history
from distcond.results.store import read_rows
from distcond.runs import checkpoint
from distcond.runs.run_dir import RunDir


def same(one: Any, other: Any) -> bool:
    """Equality bit for bit of nested states."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def assert_same_run(one: Path, other: Path, ranks: int = 1) -> None:
    last = [checkpoint.latest(RunDir(path).checkpoints) for path in (one, other)]
    assert last[0] is not None
    assert last[1] is not None
    assert last[0].name == last[1].name
    assert same(checkpoint.load_shared(last[0]), checkpoint.load_shared(last[1]))
    for rank in range(ranks):
        assert same(checkpoint.load_rank_state(last[0], rank), checkpoint.load_rank_state(last[1], rank))
    assert len(list(last[0].glob("rank-*.pt"))) == ranks
    assert told(one) == told(other)
    assert counts(one) == counts(other)


def told(path: Path) -> list[dict[str, Any]]:
    """The history, without what a clock says."""
    timed = ("seconds", "images_per_second", "shares")
    return [{name: value for name, value in record.items() if name not in timed} for record in history.read(path)]


def counts(path: Path) -> list[tuple[Any, ...]]:
    return [
        (row.split, row.checkpoint, row.epoch, row.lam, row.attack, row.num_correct, row.num_examples)
        for row in read_rows(path)
    ]
