"""Building blocks of mask updates: scores, units (weights or channels), drop and grow, schedules of the drop rate.

Counts are exact, and ties are broken by position: the earlier entry is dropped or grown first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.seeding import generator
from distcond.sparsity.masks import Weights


def score_by_magnitude(weights: Weights) -> dict[str, Tensor]:
    """|w|."""
    return {name: weight.detach().abs() for name, weight in weights.items()}


def score_by_gradient(weights: Weights) -> dict[str, Tensor]:
    """|dL/dw| of the last step, dense: also outside the mask."""
    return {name: _last_gradient(name, weight).abs() for name, weight in weights.items()}


def momentum_buffers(weights: Weights, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """SGD's momentum buffers by weight name; empty before the first step or without momentum."""
    states = {name: optimiser.state.get(weight, {}) for name, weight in weights.items()}
    buffers: Mapping[str, Tensor | None] = {name: state.get("momentum_buffer") for name, state in states.items()}
    return {name: buffer for name, buffer in buffers.items() if buffer is not None}


def random_scores(weights: Weights, *key: object) -> dict[str, Tensor]:
    """Uniform random scores; they depend on key and name, not on the device."""
    return {
        name: torch.rand(weight.shape, generator=generator(*key, name)).to(weight.device)
        for name, weight in weights.items()
    }


def _last_gradient(name: str, weight: Tensor) -> Tensor:
    assert weight.grad is not None, f"{name} has no gradient: growth by gradient follows a backward pass"
    return weight.grad


class Granularity(NamedTuple):
    """The units of a weight that are kept or dropped together."""

    score: Callable[[Tensor], Tensor]  # values shaped like the weight -> one nonnegative score per unit
    narrow: Callable[[Tensor], Tensor]  # mask of the weight -> mask of its units
    widen: Callable[[Tensor, Tensor], Tensor]  # (mask of the units, mask of the weight) -> mask of the weight
    num_units: Callable[[Tensor], int]


def _channel_norms(values: Tensor) -> Tensor:
    """Frobenius norm of each input channel (C_in,)."""
    return torch.linalg.vector_norm(values, dim=(0, 2, 3))


def _widen_channels(units: Tensor, mask: Tensor) -> Tensor:
    return torch.empty_like(mask).copy_(units[None, :, None, None])


WEIGHT = Granularity(torch.abs, lambda mask: mask, lambda units, mask: units, lambda weight: weight.numel())
CHANNEL = Granularity(_channel_norms, lambda mask: mask[0, :, 0, 0], _widen_channels, lambda weight: weight.shape[1])

GRANULARITIES = {"weight": WEIGHT, "channel": CHANNEL}


def num_dropped(num_kept: int, rate: float) -> int:
    """ceil(rate * kept), but a layer keeps at least one entry, without which its output would be constant."""
    return min(math.ceil(rate * num_kept), num_kept - 1)


def drop(mask: Tensor, score: Tensor, count: int) -> Tensor:
    """`mask` without its `count` kept entries of lowest score."""
    order = torch.where(mask, score, torch.inf).reshape(-1).argsort(stable=True)
    return _set_entries(mask, order[:count], False)


def grow(mask: Tensor, score: Tensor, count: int) -> Tensor:
    """`mask` plus the `count` entries outside it of highest score."""
    order = torch.where(mask, -torch.inf, score).reshape(-1).argsort(descending=True, stable=True)
    return _set_entries(mask, order[:count], True)


def _set_entries(mask: Tensor, index: Tensor, value: bool) -> Tensor:
    flat = mask.reshape(-1).clone()
    flat[index] = value
    return torch.empty_like(mask).copy_(flat.view(mask.shape))


#: (start, end, share done in [0, 1]) -> value.
Schedule = Callable[[float, float, float], float]


def linear(start: float, end: float, done: float) -> float:
    """Linear decay from `start` to `end`."""
    return start + (end - start) * done


def cosine(start: float, end: float, done: float) -> float:
    """Half-cosine decay from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


SCHEDULES: dict[str, Schedule] = {"linear": linear, "cosine": cosine}
