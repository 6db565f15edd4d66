from __future__ import annotations

import numpy as np
import pytest

from distcond.data.loader import batch_indices, num_steps


def shares(n: int, batch_size: int, world: int, **kwargs: object) -> list[list[np.ndarray]]:
    options = {"seed": 0, "epoch": 0, "shuffle": True, "drop_last": False} | kwargs
    return [batch_indices(n, batch_size, rank=rank, world=world, **options) for rank in range(world)]  # type: ignore[arg-type]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_image_appears_exactly_once(world: int) -> None:
    seen = np.concatenate([part for rank in shares(1003, 64, world) for part in rank])
    assert sorted(seen) == list(range(1003))


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_ranks_interleave_to_the_global_batch(world: int, drop_last: bool) -> None:
    (alone,) = shares(1003, 64, 1, drop_last=drop_last)
    together = shares(1003, 64, world, drop_last=drop_last)
    for step, batch in enumerate(alone):
        for rank in range(world):
            assert np.array_equal(together[rank][step], batch[rank::world])


def test_a_restart_gives_the_tail() -> None:
    (whole,) = shares(1003, 64, 1)
    for start in (1, 7, 15):
        (tail,) = shares(1003, 64, 1, start=start)
        assert len(tail) == len(whole) - start
        assert all(np.array_equal(a, b) for a, b in zip(tail, whole[start:], strict=True))
    assert shares(1003, 64, 1, start=16) == [[]]


def test_empty_batches_are_kept() -> None:
    first, second = shares(513, 512, 2)
    assert [len(part) for part in first] == [256, 1]
    assert [len(part) for part in second] == [256, 0]


def test_drop_last_drops_the_short_batch() -> None:
    (parts,) = shares(1003, 64, 1, drop_last=True)
    assert [len(part) for part in parts] == [64] * 15
    assert num_steps(1003, 64, drop_last=True) == 15
    assert num_steps(1003, 64, drop_last=False) == 16
    (parts,) = shares(1003, 64, 1, drop_last=True, start=15)
    assert parts == []


def test_the_order_follows_seed_and_epoch() -> None:
    orders = [np.concatenate(shares(100, 10, 1, **kwargs)[0]) for kwargs in ({}, {"seed": 1}, {"epoch": 1}, {})]
    assert np.array_equal(orders[0], orders[3])
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    (in_order,) = shares(100, 10, 1, shuffle=False, epoch=3)
    assert np.array_equal(np.concatenate(in_order), np.arange(100))


def test_order_does_not_depend_on_batch_size() -> None:
    assert np.array_equal(np.concatenate(shares(100, 10, 1)[0]), np.concatenate(shares(100, 32, 1)[0]))


def test_parts_are_contiguous_int64() -> None:
    for part in shares(100, 10, 3)[1]:
        assert part.dtype == np.int64
        assert part.flags.c_contiguous
