"""Compares runs bit for bit: checkpoints, histories and rows. Tests use the fixture `same_run` or import it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distcond.results import history
from distcond.results.store import read_rows
from distcond.runs import checkpoint
from distcond.runs.run_dir import RunDir

#: Keys of a history record that depend on the clock.
TIMES = ("seconds", "images_per_second", "shares")


def assert_same_run(one: Path, other: Path, ranks: int = 1) -> None:
    """Assert that two runs have the same last checkpoint, history and rows."""
    first, second = (checkpoint.latest(RunDir(path).checkpoints) for path in (one, other))
    assert first is not None
    assert second is not None
    assert first.name == second.name
    assert same(checkpoint.load_shared(first), checkpoint.load_shared(second))
    for rank in range(ranks):
        assert same(checkpoint.load_rank_state(first, rank), checkpoint.load_rank_state(second, rank))
    assert len(list(first.glob("rank-*.pt"))) == ranks
    assert history_without_times(one) == history_without_times(other)
    assert counts(one) == counts(other)


def assert_same_end(one: Path, other: Path) -> None:
    """Assert that two runs have the same last checkpoint, but for the method's name, and the same counts on test."""
    assert last_checkpoint(one) == last_checkpoint(other)
    assert _test_counts(one) == _test_counts(other)


def last_checkpoint(run: Path) -> dict[str, Any]:
    """The name and content of the last checkpoint, without the method's name, as plain values that compare."""
    last = checkpoint.latest(RunDir(run).checkpoints)
    assert last is not None
    files = {}
    for file in sorted(last.glob("*.pt")):
        state = torch.load(file, weights_only=True)
        state.pop("method", None)
        files[file.name] = _plain(state)
    return {last.name: files}


def same(one: Any, other: Any) -> bool:
    """Whether nested states are equal bit for bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def history_without_times(path: Path) -> list[dict[str, Any]]:
    """The history of a run, without what depends on the clock."""
    return [{name: value for name, value in record.items() if name not in TIMES} for record in history.read(path)]


def counts(path: Path) -> list[tuple[Any, ...]]:
    """What was counted, and the counts, of every row."""
    return [
        (row.split, row.checkpoint, row.epoch, row.lam, row.attack, row.num_correct, row.num_examples)
        for row in read_rows(path)
    ]


def _test_counts(path: Path) -> list[tuple[Any, ...]]:
    rows = [row for row in read_rows(path) if row.split == "test"]
    return sorted((row.checkpoint, row.lam, row.attack, row.num_correct) for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
