"""CheckpointPolicy: when a run saves or stops, the same on every rank, agreed about once a second."""

from __future__ import annotations

from typing import Any

import pytest

from distcond.distributed.world import World
from distcond.errors import StopRequested
from distcond.training import checkpointing
from distcond.training.checkpointing import CheckpointPolicy, never_stop


def test_save_is_due_every_n_steps() -> None:
    policy = CheckpointPolicy(World(), 4, 0.0, never_stop)
    assert [step for step in range(1, 13) if policy.after_step(step, last=step % 6 == 0)] == [4, 8]
    assert policy.due_at_epoch_end  # step 12 ends an epoch, which saves anyway
    policy.saved()
    assert not policy.due_at_epoch_end


def test_save_is_due_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: clock[0])
    policy = CheckpointPolicy(World(), 0, 1.0, never_stop)
    due = []
    for step in range(1, 301):
        clock[0] += 0.5
        if policy.after_step(step, last=False):
            due.append(clock[0])
            policy.saved()
    assert due == [60.5, 120.5]  # ranks agree once a second


def test_ranks_agree_once_a_second_at_any_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = [0.0], []
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: clock[0])
    policy = CheckpointPolicy(World(), 0, 0.0, lambda: bool(asked.append(clock[0])))
    for step in range(1, 2001):
        clock[0] += 0.01
        policy.after_step(step, last=False)
    assert 20 <= len(asked) <= 26


def on_rank(rank: int, world: int) -> list[Any]:
    asks = iter([False, rank == 1])
    policy = CheckpointPolicy(World(rank, world), 0, 0.0, lambda: next(asks))
    with pytest.MonkeyPatch.context() as patch:  # the process also runs other tests
        patch.setattr(checkpointing, "INTERVAL", 0.0)
        assert not policy.after_step(1, last=False)
        with pytest.raises(StopRequested):
            policy.after_step(2, last=False)
    return [rank]


def test_stop_request_on_one_rank_stops_all(run_ranks: Any) -> None:
    assert run_ranks(on_rank, 2) == [[0], [1]]
