"""Ranks that wait for a slow one hear from it: no collective runs into its time limit for that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distcond.config.schema import Config
from distcond.distributed import world as at
from distcond.distributed.world import World, run_with_keepalive
from distcond.runs.remote import remote_run_of
from distcond.runs.run_dir import RunDir
from distcond.storage.errors import StorageError
from distcond.storage.store import Store
from distcond.training.fit import fit
from support.processes import LIMIT

_met = threading.Semaphore(0)


class Meeting(World):
    """Counts how often its ranks have met."""

    def all_reduce_max(self, values: list[float]) -> list[float]:
        _met.release()
        return super().all_reduce_max(values)


def slow() -> str:
    """Goes on only while the ranks meet; else it would be over before anybody waits."""
    while _met.acquire(blocking=False):
        pass
    for _ in range(3):
        assert _met.acquire(timeout=LIMIT), "nobody hears of this rank"
    return "done"


def one_is_slow(rank: int, world: int) -> list[str]:
    at.KEEPALIVE_INTERVAL = 0.05
    return [run_with_keepalive(Meeting(rank, world), slow if rank else lambda: "at once")]


def one_fails(rank: int, world: int) -> str:
    try:
        run_with_keepalive(World(rank, world), (lambda: 1 // 0) if rank else (lambda: 1))
    except ZeroDivisionError:
        return "its own"
    except RuntimeError:
        return "another's"
    return "none"


def test_a_slow_rank_is_heard_of(run_ranks: Callable[..., list[Any]]) -> None:
    assert run_ranks(one_is_slow, 2) == [["at once"], ["done"]]
    assert run_with_keepalive(World(), lambda: 3) == 3


def test_an_error_stays_one(run_ranks: Callable[..., list[Any]]) -> None:
    assert run_ranks(one_fails, 2) == ["another's", "its own"]
    with pytest.raises(ZeroDivisionError):
        run_with_keepalive(World(), lambda: 1 // 0)


def one_has_no_end(rank: int, world: int) -> str:
    at.KEEPALIVE_INTERVAL = 0.05
    try:
        run_with_keepalive(World(rank, world), threading.Event().wait if rank else lambda: True, limit=0.2)
    except StorageError as error:
        return str(error)
    except RuntimeError:
        return "another's"
    return "none"


def test_what_has_no_end_is_left_behind(run_ranks: Callable[..., list[Any]]) -> None:
    other, hanging = run_ranks(one_has_no_end, 2)
    assert other == "another's" and "0.2 s" in hanging
    assert "0.2 s" in one_has_no_end(1, 1)


def slow_to_send(rank: int, world: int, config: Config, machines: list[str]) -> None:
    """One rank in a directory of its own; the second is slow with every part of a checkpoint."""
    original, at.KEEPALIVE_INTERVAL = Store.put, 0.05

    def put(self: Store, local: Path, name: str) -> int:
        if "rank-0001" in name:
            slow()
        return original(self, local, name)

    Store.put = put  # type: ignore[method-assign]
    try:
        fit(config, Meeting(rank, world), Path(machines[rank]))
    finally:
        Store.put = original  # type: ignore[method-assign]


def test_a_slow_link_is_no_silence(
    small: Callable[..., Config], tmp_path: Path, run_ranks: Callable[..., list[Any]]
) -> None:
    config = replace(small(epochs=1, eval__train_examples=0), run_root=f"file://{tmp_path}/there")
    machines = [tmp_path / name / "run" for name in "01"]
    machines[1].mkdir(parents=True)
    home = remote_run_of(config, machines[0])
    assert home is not None
    with RunDir(machines[0]).begin(config):
        home.publish_start()
        run_ranks(slow_to_send, 2, config, list(map(str, machines)))
    parts = ["complete.json", "rank-0000.pt", "rank-0001.pt", "shared.pt"]
    assert sorted(home.store.names("checkpoints")) == [f"checkpoints/epoch-0001/{n}" for n in parts]
