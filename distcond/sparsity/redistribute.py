"""Let layers trade density: every layer drops its share, the free budget goes where the momentum is (Dettmers &
Zettlemoyer 2019, sparse momentum). The total stays what it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.sparsity.apportion import spread, whole
from distcond.sparsity.update import num_dropped

#: Of a layer's free places, at most this share is filled in one update.
FILL = 0.99
#: A layer of sparsity below this and of more than average share drops no more than its sparsity.
NEARLY_FULL = 0.2


class Layers(NamedTuple):
    """Counts per layer, in units (weights or channels)."""

    kept: Sequence[int]
    total: Sequence[int]
    size: Sequence[int]  # weights per unit


class Plan(NamedTuple):
    """Units to drop and then to grow, per layer."""

    drops: list[int]
    grows: list[int]


def shares_of(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> list[float]:
    """Each layer's share of the mean score over its kept weights; they add up to 1."""
    means = torch.stack([(scores[name] * mask).sum() / mask.sum().clamp(min=1) for name, mask in masks.items()])
    return (means.double() / means.double().sum().clamp(min=torch.finfo(torch.float64).tiny)).tolist()


def drops_of(layers: Layers, shares: Sequence[float], rate: float) -> list[int]:
    """Units each layer drops: `rate` of those it keeps, less for layers that are nearly full and in demand."""
    average = sum(shares) / len(shares)
    drops = []
    for kept, total, share in zip(layers.kept, layers.total, shares, strict=True):
        free = 1 - kept / total
        drops.append(num_dropped(kept, min(free, rate) if free < NEARLY_FULL and share > average else rate))
    return drops


def redistribute(layers: Layers, shares: Sequence[float], rate: float, budget: int) -> Plan:
    """Drop `rate` everywhere and grow back to `budget` weights in all, by share.

    With units of one weight the budget is met exactly; with channels, to less than the smallest one.
    """
    drops = drops_of(layers, shares, rate)
    left = [kept - dropped for kept, dropped in zip(layers.kept, drops, strict=True)]
    free = [total - kept for total, kept in zip(layers.total, left, strict=True)]
    need = budget - _weights(left, layers.size)
    caps = [int(FILL * places) for places in free]
    if _weights(caps, layers.size) < need:
        caps = free
    places = [cap * size for cap, size in zip(caps, layers.size, strict=True)]
    parts = [part / size for part, size in zip(spread(need, shares, places), layers.size, strict=True)]
    return Plan(drops, whole(parts, need, caps, layers.size))


def _weights(units: Sequence[int], sizes: Sequence[int]) -> int:
    return sum(n * size for n, size in zip(units, sizes, strict=True))
