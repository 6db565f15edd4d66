"""Drop takes the smallest, grow the largest, exactly as many as asked, ties in order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distcond.sparsity.update import drop, grow, num_dropped


def mask(*bits: int) -> Tensor:
    return torch.tensor(bits, dtype=torch.bool)


def test_drop_takes_the_smallest_of_the_kept() -> None:
    score = torch.tensor([5.0, 0.0, 1.0, 3.0, 0.1, 2.0])
    assert torch.equal(drop(mask(1, 0, 1, 1, 0, 1), score, 2), mask(1, 0, 0, 1, 0, 0))


def test_grow_takes_the_largest_of_the_free() -> None:
    score = torch.tensor([9.0, 0.5, 9.0, 0.7, 0.0, 0.6])
    assert torch.equal(grow(mask(1, 0, 1, 0, 0, 0), score, 2), mask(1, 0, 1, 1, 0, 1))


def test_ties_follow_the_order() -> None:
    assert torch.equal(drop(mask(1, 1, 1, 1), torch.zeros(4), 2), mask(0, 0, 1, 1))
    assert torch.equal(grow(mask(0, 0, 0, 0), torch.zeros(4), 2), mask(1, 1, 0, 0))


def test_zero_share_changes_nothing_and_copies_masks() -> None:
    before = mask(1, 0, 1)
    assert torch.equal(drop(before, torch.ones(3), 0), before)
    assert torch.equal(grow(before, torch.ones(3), 0), before)
    drop(before, torch.ones(3), 1)
    grow(before, torch.ones(3), 1)
    assert torch.equal(before, mask(1, 0, 1))


def test_memory_layout_changes_neither_the_choice_nor_itself() -> None:
    source = torch.Generator().manual_seed(0)
    kept, score = torch.rand(8, 4, 3, 3, generator=source) > 0.5, torch.rand(8, 4, 3, 3, generator=source)
    last = torch.channels_last
    for change in (drop, grow):
        plain = change(kept, score, 20)
        mixed = change(kept.to(memory_format=last), score, 20)
        assert torch.equal(mixed, plain)
        assert mixed.is_contiguous(memory_format=last)
        assert abs(int(plain.sum()) - int(kept.sum())) == 20


@pytest.mark.parametrize(
    ("kept", "rate", "dropped"), [(10, 0.25, 3), (10, 0.0, 0), (4, 0.5, 2), (4, 1.0, 3), (1, 0.5, 0)]
)
def test_shares_round_up_but_one_weight_stays(kept: int, rate: float, dropped: int) -> None:
    assert num_dropped(kept, rate) == dropped
