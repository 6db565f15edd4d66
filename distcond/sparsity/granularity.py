"""What is switched on and off as one: a single weight, or a whole input channel of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Granularity(NamedTuple):
    """The units of a weight. Sizes and counts are per layer, in units."""

    score: Callable[[Tensor], Tensor]  # values shaped like the weight -> one non-negative score per unit
    narrow: Callable[[Tensor], Tensor]  # mask of the weight -> mask of its units
    widen: Callable[[Tensor, Tensor], Tensor]  # (mask of the units, mask of the weight) -> mask of the weight
    num_units: Callable[[Tensor], int]


def _by_channel(values: Tensor) -> Tensor:
    """Frobenius norm of each input channel (C_in,)."""
    return torch.linalg.vector_norm(values, dim=(0, 2, 3))


def _over_channels(units: Tensor, mask: Tensor) -> Tensor:
    return torch.empty_like(mask).copy_(units[None, :, None, None])


WEIGHT = Granularity(torch.abs, lambda mask: mask, lambda units, mask: units, lambda weight: weight.numel())
CHANNEL = Granularity(_by_channel, lambda mask: mask[0, :, 0, 0], _over_channels, lambda weight: weight.shape[1])

GRANULARITIES = {"weight": WEIGHT, "channel": CHANNEL}
