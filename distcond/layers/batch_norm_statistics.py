"""Batch normalisation's statistics: of chosen rows and, where asked, averaged over all ranks.

What dual and shared batch normalisation are made of, and how running statistics of all ranks become one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Moments(NamedTuple):
    """Per-channel mean and biased variance (C,) over `rows` rows of `places` positions in all (0-d tensors)."""

    mean: Tensor
    var: Tensor
    rows: Tensor
    places: Tensor


class _SumOverRanks(torch.autograd.Function):
    """Sum over ranks whose gradient is summed over ranks too."""

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


def moments(x: Tensor, keep: Tensor, shared: bool = False) -> Moments:
    """Moments of the rows of x (N, C, H, W), float32, where keep (N,) is 1; over all ranks if `shared`.

    Two passes (mean, then centred squares): one pass over squares loses digits. Never looks at a value on the host,
    and a selection of no rows gives zeros, so every parameter stays in the graph on every rank.
    """
    across = shared and dist.is_available() and dist.is_initialized()
    mask = keep[:, None, None, None]
    rows = keep.sum()
    totals = torch.cat([(x * mask).sum((0, 2, 3)), rows[None]])
    totals = _SumOverRanks.apply(totals) if across else totals
    rows = totals[-1].detach()
    places = rows * (x.shape[2] * x.shape[3])
    mean = totals[:-1] / places.clamp(min=1)
    squares = ((x - mean[:, None, None]).square() * mask).sum((0, 2, 3))
    squares = _SumOverRanks.apply(squares) if across else squares
    return Moments(mean, squares / places.clamp(min=1), rows, places)


@torch.no_grad()
def update_running_statistics(norm: nn.BatchNorm2d, found: Moments) -> None:
    """Move the running statistics towards `found` and count the move, as nn.BatchNorm2d does.

    Fewer than two rows leave all of it alone.
    """
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    assert norm.num_batches_tracked is not None
    step = torch.where(found.rows > 1, norm.momentum, 0.0)
    unbiased = found.var * found.places / (found.places - 1).clamp(min=1)
    norm.running_mean += step * (found.mean - norm.running_mean)
    norm.running_var += step * (unbiased - norm.running_var)
    norm.num_batches_tracked += found.rows > 1


def pool_statistics(mean: Tensor, var: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of the images of all ranks, from those of every rank (R, C).

    The variance is that within ranks and that between their means: without the second it is too small wherever ranks
    see different images. Ranks that are not `moved` (R,) hold no image's statistics and are left out, unless all are.
    Added in rank order: every rank and every reader gets the same bits.
    """
    if bool(moved.any()):
        mean, var = mean[moved], var[moved]
    centre = mean.mean(0)
    return centre, var.mean(0) + (mean - centre).square().mean(0)


def normalise_shared(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Train-mode batch normalisation of every row by the moments of all ranks."""
    x32 = x.float()
    found = moments(x32, x32.new_ones(x.shape[0]), shared=True)
    update_running_statistics(norm, found)
    scale = norm.weight * torch.rsqrt(found.var + norm.eps)
    shift = norm.bias - found.mean * scale
    return (x32 * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
