"""run_with_keepalive: waiting for a slow rank runs into no time limit of a collective."""

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


class CountingWorld(World):
    """Counts its reductions."""

    def all_reduce_max(self, values: list[float]) -> list[float]:
        _met.release()
        return super().all_reduce_max(values)


def slow() -> str:
    """Work that lasts for several reductions, so that the other rank has to wait."""
    while _met.acquire(blocking=False):
        pass
    for _ in range(3):
        assert _met.acquire(timeout=LIMIT), "nobody hears of this rank"
    return "done"


def one_is_slow(rank: int, world: int) -> list[str]:
    at.KEEPALIVE_INTERVAL = 0.05
    return [run_with_keepalive(CountingWorld(rank, world), slow if rank else lambda: "at once")]


def one_fails(rank: int, world: int) -> str:
    try:
        run_with_keepalive(World(rank, world), (lambda: 1 // 0) if rank else (lambda: 1))
    except ZeroDivisionError:
        return "its own"
    except RuntimeError:
        return "another's"
    return "none"


def test_slow_rank_is_waited_for(run_ranks: Callable[..., list[Any]]) -> None:
    assert run_ranks(one_is_slow, 2) == [["at once"], ["done"]]
    assert run_with_keepalive(World(), lambda: 3) == 3


def test_error_of_work_is_raised(run_ranks: Callable[..., list[Any]]) -> None:
    assert run_ranks(one_fails, 2) == ["another's", "its own"]
    with pytest.raises(ZeroDivisionError):
        run_with_keepalive(World(), lambda: 1 // 0)


def one_hangs(rank: int, world: int) -> str:
    at.KEEPALIVE_INTERVAL = 0.05
    try:
        run_with_keepalive(World(rank, world), threading.Event().wait if rank else lambda: True, limit=0.2)
    except StorageError as error:
        return str(error)
    except RuntimeError:
        return "another's"
    return "none"


def test_hanging_work_is_abandoned(run_ranks: Callable[..., list[Any]]) -> None:
    other, hanging = run_ranks(one_hangs, 2)
    assert other == "another's" and "0.2 s" in hanging
    assert "0.2 s" in one_hangs(1, 1)


def slow_upload(rank: int, world: int, config: Config, machines: list[str]) -> None:
    """One rank in its own directory; the second is slow to upload its parts of checkpoints."""
    original, at.KEEPALIVE_INTERVAL = Store.put, 0.05

    def put(self: Store, local: Path, name: str) -> int:
        if "rank-0001" in name:
            slow()
        return original(self, local, name)

    Store.put = put  # type: ignore[method-assign]
    try:
        fit(config, CountingWorld(rank, world), Path(machines[rank]))
    finally:
        Store.put = original  # type: ignore[method-assign]


def test_slow_upload_is_not_a_lost_rank(
    small: Callable[..., Config], tmp_path: Path, run_ranks: Callable[..., list[Any]]
) -> None:
    config = replace(small(epochs=1, eval__train_examples=0), run_root=f"file://{tmp_path}/there")
    machines = [tmp_path / name / "run" for name in "01"]
    machines[1].mkdir(parents=True)
    home = remote_run_of(config, machines[0])
    assert home is not None
    with RunDir(machines[0]).begin(config):
        home.publish_start()
        run_ranks(slow_upload, 2, config, list(map(str, machines)))
    parts = ["complete.json", "history.jsonl", "rank-0000.pt", "rank-0001.pt", "shared.pt"]
    assert sorted(home.store.names("checkpoints")) == [f"checkpoints/epoch-0001/{n}" for n in parts]
