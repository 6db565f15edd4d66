"""Drop and grow: exact counts, deterministic ties (the earlier entry goes, or comes, first)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def num_dropped(num_kept: int, rate: float) -> int:
    """ceil(rate * kept), but a layer never loses its last entry: nothing could flow through it any more."""
    return min(math.ceil(rate * num_kept), num_kept - 1)


def drop(mask: Tensor, score: Tensor, count: int) -> Tensor:
    """`mask` without the `count` kept entries of lowest score."""
    order = torch.where(mask, score, torch.inf).reshape(-1).argsort(stable=True)
    return _with(mask, order[:count], False)


def grow(mask: Tensor, score: Tensor, count: int) -> Tensor:
    """`mask` with the `count` free entries of highest score."""
    order = torch.where(mask, -torch.inf, score).reshape(-1).argsort(descending=True, stable=True)
    return _with(mask, order[:count], True)


def _with(mask: Tensor, index: Tensor, value: bool) -> Tensor:
    flat = mask.reshape(-1).clone()
    flat[index] = value
    return torch.empty_like(mask).copy_(flat.view(mask.shape))
