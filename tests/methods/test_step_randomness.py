"""The randomness of a step does not depend on how many ranks share it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distcond.layers.condition import Routing
from distcond.methods.step_context import RowSlice, StepRandomness

LAM = torch.tensor([0.0, 0.0, 0.0, 0.4, 0.4, 1.0, 1.0])
WORLDS = (1, 2, 3, 7, 9)


def of(rank: int = 0, world: int = 1, **other: int) -> StepRandomness:
    return StepRandomness(**({"seed": 1, "epoch": 2, "step": 3} | other), rank=rank, world=world, lam=LAM)


def rows(part: RowSlice) -> int:
    return part.rows.stop - part.rows.start


def lam_of(part: RowSlice) -> Tensor:
    return part.lam if isinstance(part.lam, Tensor) else torch.full((rows(part),), part.lam)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("start", "stop"), [(0, 7), (0, 3), (3, 7), (3, 5), (2, 6), (7, 7)])
def test_ranks_interleave_to_all_rows(world: int, start: int, stop: int) -> None:
    whole = torch.arange(7)
    for rank in range(world):
        part = of(rank, world).slice_rows(start, stop)
        mine = whole[rank::world][part.rows]
        assert mine.tolist() == [n for n in range(start, stop) if n % world == rank]
        assert torch.equal(lam_of(part), LAM[mine])
        assert (part.start, part.stop) == (start, stop)


@pytest.mark.parametrize("world", WORLDS)
def test_all_ranks_agree_whether_lam_is_one(world: int) -> None:
    for rank in range(world):
        draws = of(rank, world)
        assert draws.slice_rows(0, 3).lam == 0.0
        assert draws.slice_rows(5, 7).lam == 1.0
        assert isinstance(draws.slice_rows(3, 7).lam, Tensor)
        assert isinstance(draws.all_rows().lam, Tensor)
        assert draws.num_clean == 3


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("start", "stop"), [(0, 7), (3, 7)])
def test_random_starts_of_ranks_equal_one_ranks(world: int, start: int, stop: int) -> None:
    alone = of().slice_rows(start, stop)
    whole = of().uniform(alone, torch.zeros(rows(alone), 3, 4, 4), "attack")
    found = torch.empty(7, 3, 4, 4)
    for rank in range(world):
        part = of(rank, world).slice_rows(start, stop)
        found[rank::world][part.rows] = of(rank, world).uniform(part, torch.zeros(rows(part), 3, 4, 4), "attack")
    assert torch.equal(found[start:stop], whole)


def test_random_starts_are_uniform_and_keyed_by_purpose() -> None:
    like = torch.zeros(7, 3, 16, 16)

    def unit(purpose: str = "attack", **other: int) -> Tensor:
        return of(**other).uniform(of().all_rows(), like, purpose)

    base = unit()
    assert torch.equal(base, unit())
    assert all(not torch.equal(base, changed) for changed in (unit("x"), unit(seed=9), unit(epoch=9), unit(step=9)))
    assert base.min() >= -1
    assert base.max() <= 1
    assert base.abs().mean() == pytest.approx(0.5, abs=0.02)
    assert base.mean() == pytest.approx(0, abs=0.02)


def test_keys_are_the_same_on_all_ranks() -> None:
    assert of(1, 3).key("noise", "clean") == of(0, 1).key("noise", "clean")
    assert len({of().key("noise", "clean"), of(step=4).key("noise", "clean"), of().key("noise", "attack0")}) == 3


@pytest.mark.parametrize(
    ("start", "stop", "threshold", "route"),
    [
        (0, 3, 0.0, False),
        (3, 7, 0.0, True),
        (0, 7, 0.0, None),
        (0, 5, 0.5, False),
        (3, 7, 0.5, None),
        (5, 7, 0.5, True),
        (7, 7, 0.0, None),
    ],
)
def test_a_common_route_by_hand(start: int, stop: int, threshold: float, route: bool | None) -> None:
    for rank in range(3):
        draws = of(rank, 3)
        assert draws.common_route(draws.slice_rows(start, stop), Routing(threshold)) is route
