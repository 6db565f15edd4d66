"""Rendezvous in a store that still has keys of an earlier start."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore, Store

from distcond.distributed.rendezvous import rendezvous_store
from distcond.errors import StopRequested
from distcond.training.checkpointing import never_stop
from support.processes import LIMIT


def values_after_rendezvous(store: Store, size: int, order: list[int]) -> list[str]:
    """The value that each rank reads under the key of rank 0 after the rendezvous; ranks arrive in `order`."""

    def take_part(rank: int) -> str:
        place = rendezvous_store(store, rank, size, seconds=LIMIT, stop=never_stop)
        if rank == 0:
            place.set("address", f"of start {starts}")
        return place.get("address").decode()

    starts = store.add("starts", 1)
    with ThreadPoolExecutor(size) as pool:
        return [work.result() for work in [pool.submit(take_part, rank) for rank in order]]


def test_keys_of_another_start_are_ignored() -> None:
    store = HashStore()
    for start, order in enumerate([[0, 1, 2], [2, 1, 0], [1, 0, 2]], 1):
        assert values_after_rendezvous(store, 3, order) == [f"of start {start}"] * 3


def test_rank_0_of_another_start_is_ignored() -> None:
    store = HashStore()
    store.set("distcond/word", "dead")
    assert values_after_rendezvous(store, 2, [1, 0]) == ["of start 1"] * 2


def test_missing_rank_raises() -> None:
    store = HashStore()
    store.set("distcond/word", "dead")
    for rank in (0, 1):
        with pytest.raises(RuntimeError, match="2"):
            rendezvous_store(store, rank, 2, seconds=0.1, stop=never_stop)


@pytest.mark.parametrize("rank", [0, 1])
def test_stop_request_ends_the_wait(rank: int) -> None:
    asked = iter([False, False, True])
    with pytest.raises(StopRequested):
        rendezvous_store(HashStore(), rank, 2, seconds=LIMIT, stop=lambda: next(asked))
