"""Batch-norm statistics: of a subset of rows, over all ranks of a step, and pooled running statistics of all ranks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Moments(NamedTuple):
    """Mean and biased variance per channel (C,)."""

    mean: Tensor
    var: Tensor
    rows: Tensor  # 0-d, number of rows
    positions: Tensor  # 0-d, number of values per channel: rows * H * W


class _SumOverRanks(torch.autograd.Function):
    """All-reduce sum whose gradient is all-reduced too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone()
        dist.all_reduce(grad)
        return grad


def masked_moments(x: Tensor, keep: Tensor, shared: bool = False) -> Moments:
    """Moments of the rows of x (N, C, H, W), float32, where keep (N,) is 1; over all ranks if `shared`.

    Two passes (mean, then centred squares), because sums of squares lose digits. No host synchronisation. An empty
    selection gives zeros, so that every parameter stays in the graph on every rank.
    """
    across = shared and dist.is_available() and dist.is_initialized()
    mask = keep[:, None, None, None]
    rows = keep.sum()
    totals = torch.cat([(x * mask).sum((0, 2, 3)), rows[None]])
    totals = _SumOverRanks.apply(totals) if across else totals
    rows = totals[-1].detach()
    positions = rows * (x.shape[2] * x.shape[3])
    mean = totals[:-1] / positions.clamp(min=1)
    squares = ((x - mean[:, None, None]).square() * mask).sum((0, 2, 3))
    squares = _SumOverRanks.apply(squares) if across else squares
    return Moments(mean, squares / positions.clamp(min=1), rows, positions)


@torch.no_grad()
def update_running_statistics(norm: nn.BatchNorm2d, batch: Moments) -> None:
    """Update running statistics and the batch counter with `batch`, as nn.BatchNorm2d does.

    Nothing changes for fewer than two rows.
    """
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    assert norm.num_batches_tracked is not None
    step = torch.where(batch.rows > 1, norm.momentum, 0.0)
    unbiased = batch.var * batch.positions / (batch.positions - 1).clamp(min=1)
    norm.running_mean += step * (batch.mean - norm.running_mean)
    norm.running_var += step * (unbiased - norm.running_var)
    norm.num_batches_tracked += batch.rows > 1


def pool_statistics(mean: Tensor, var: Tensor, updated: Tensor) -> tuple[Tensor, Tensor]:
    """Running mean and variance (C,) over all ranks, from those of each rank (R, C).

    The variance is the mean variance within ranks plus the variance between their means. Ranks that are not `updated`
    (R,) have seen no images and are left out, unless that holds for all. Summed in rank order: every rank gets the same
    bits.
    """
    if bool(updated.any()):
        mean, var = mean[updated], var[updated]
    centre = mean.mean(0)
    return centre, var.mean(0) + (mean - centre).square().mean(0)


def normalise_shared(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Train-mode batch normalisation with the moments of all ranks (SyncBN)."""
    x32 = x.float()
    batch = masked_moments(x32, x32.new_ones(x.shape[0]), shared=True)
    update_running_statistics(norm, batch)
    scale = norm.weight * torch.rsqrt(batch.var + norm.eps)
    shift = norm.bias - batch.mean * scale
    return (x32 * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
