"""Ranks with equal masks continue, ranks with different masks are stopped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distcond.sparsity.masks import average_over_ranks, require_agreement


def masks(last: bool) -> dict[str, Tensor]:
    return {"a": torch.tensor([True, False]), "b": torch.tensor([[False, last]])}


def test_one_process_needs_no_agreement() -> None:
    require_agreement(masks(True))
    tensor = torch.ones(2)
    average_over_ranks([tensor])
    assert tensor.tolist() == [1, 1]


def on_rank(rank: int, world: int, different: bool) -> str:
    try:
        require_agreement(masks(different and rank == 1))
    except RuntimeError as error:
        return str(error)
    return ""


def test_equal_masks_pass(run_ranks: Any) -> None:
    assert run_ranks(on_rank, 2, False) == ["", ""]


def test_unequal_masks_stop_every_rank_with_their_digests(run_ranks: Any) -> None:
    first, second = run_ranks(on_rank, 2, True)
    assert first == second
    assert "masks differ between ranks (rank 0: " in first
    assert "rank 1: " in first


def averaged(rank: int, world: int) -> list[Tensor]:
    tensors = [torch.full((3,), float(rank)), torch.tensor([1.0 - rank])]
    average_over_ranks(tensors)
    return tensors


def test_means_are_the_same_on_every_rank(run_ranks: Any) -> None:
    for found in run_ranks(averaged, 2):
        assert [tensor.tolist() for tensor in found] == [[0.5] * 3, [0.5]]
