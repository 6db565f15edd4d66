"""How many weights each layer keeps: at the start by a distribution, later as layers trade density by momentum.

Every distribution (uniform, ERK, ideal-gas quotas) meets the global budget exactly, at least 1 per layer. Trading is
sparse momentum (Dettmers & Zettlemoyer 2019): every layer drops its share, the free budget goes where the momentum is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.errors import ConfigError
from distcond.sparsity.update import num_dropped


def apportion(total: float, shares: Sequence[float], caps: Sequence[float]) -> list[float]:
    """Parts of `total` proportional to `shares`, none above its cap; what overflows goes to the others by share.

    Shares that are all zero count as proportional to the caps. The parts add up to min(total, sum of caps).
    """
    parts, below = [0.0] * len(caps), list(range(len(caps)))
    while below:
        weights = shares if any(shares[i] for i in below) else caps
        weight = sum(weights[i] for i in below)
        scale = total / weight if weight else 0.0
        full = [i for i in below if weights[i] * scale >= caps[i]]
        for i in full or below:
            parts[i] = caps[i] if full else weights[i] * scale
        total -= sum(caps[i] for i in full)
        below = [i for i in below if i not in full] if full else []
    return parts


def round_to_total(
    parts: Sequence[float], total: int, caps: Sequence[int], sizes: Sequence[int] | None = None, least: int = 0
) -> list[int]:
    """Whole units next to `parts`, from `least` to their caps, whose sizes add up to `total`.

    Units of size 1 meet `total` exactly (largest remainder); larger units stay below it by less than one unit. Ties go
    to the earlier part.

    Raises:
        ConfigError: `least` units for each are more than `total`.
    """
    sizes = sizes or [1] * len(parts)
    units = [min(cap, max(least, int(part))) for part, cap in zip(parts, caps, strict=True)]
    left = total - sum(n * size for n, size in zip(units, sizes, strict=True))
    while left < 0:
        richest = max(range(len(units)), key=lambda i: (units[i] - least) * sizes[i])
        if units[richest] <= least:
            raise ConfigError(f"density: {total} weights cannot give each of {len(units)} layers {least} units")
        units[richest] -= 1
        left += sizes[richest]
    return _hand_out(units, left, caps, sizes, sorted(range(len(parts)), key=lambda i: int(parts[i]) - parts[i]))


def _hand_out(
    units: list[int], left: int, caps: Sequence[int], sizes: Sequence[int], order: Sequence[int]
) -> list[int]:
    """One unit each in `order`, again and again, as long as one fits."""
    gave = True
    while gave:
        gave = False
        for i in order:
            if units[i] < caps[i] and sizes[i] <= left:
                units[i], left, gave = units[i] + 1, left - sizes[i], True
    return units


Shapes = Mapping[str, Sequence[int]]
Distribution = Callable[[Shapes, int], dict[str, int]]

_HALVINGS = 200


def weight_budget(num_weights: int, density: float) -> int:
    """The number of weights kept in all: `density * num_weights`, rounded to the nearest, at least 1."""
    return max(1, int(density * num_weights + 0.5))


def uniform(shapes: Shapes, total: int) -> dict[str, int]:
    """The same density in every layer."""
    sizes = _sizes(shapes)
    return _rounded(shapes, [n * total / sum(sizes) for n in sizes], total)


def erk(shapes: Shapes, total: int) -> dict[str, int]:
    """Erdos-Renyi-Kernel (Evci et al. 2020): counts proportional to the sum of a layer's dimensions.

    A layer that this would fill beyond its size is kept whole; the others share the rest.
    """
    shares = [float(sum(shape)) for shape in shapes.values()]
    return _rounded(shapes, apportion(total, shares, _sizes(shapes)), total)


def igq(shapes: Shapes, total: int) -> dict[str, int]:
    """Ideal-gas quotas (Vysogorets & Kempe, arXiv 2107.02306): n / (force * n + 1) of n weights.

    The one force that meets the total is found by bisection.
    """
    sizes = _sizes(shapes)
    low, high = 0.0, float(len(sizes)) / total
    for _ in range(_HALVINGS):
        force = (low + high) / 2
        low, high = (force, high) if sum(_quota(n, force) for n in sizes) > total else (low, force)
    return _rounded(shapes, [_quota(n, high) for n in sizes], total)


DISTRIBUTIONS: dict[str, Distribution] = {"uniform": uniform, "erk": erk, "igq": igq}


def _quota(size: int, force: float) -> float:
    return size / (force * size + 1)


def _sizes(shapes: Shapes) -> list[int]:
    return [prod(shape) for shape in shapes.values()]


def _rounded(shapes: Shapes, parts: Sequence[float], total: int) -> dict[str, int]:
    return dict(zip(shapes, round_to_total(parts, total, _sizes(shapes), least=1), strict=True))


#: Of a layer's free places, at most this share is filled in one update.
FILL = 0.99
#: A layer of sparsity below this and of more than average share drops no more than its sparsity.
NEARLY_FULL = 0.2


class LayerCounts(NamedTuple):
    """Counts per layer, in units (weights or channels)."""

    kept: Sequence[int]
    total: Sequence[int]
    size: Sequence[int]  # weights per unit


class RedistributionPlan(NamedTuple):
    """Units to drop and then to grow, per layer."""

    drops: list[int]
    grows: list[int]


def momentum_shares(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> list[float]:
    """Each layer's share of the mean score over its kept weights; they add up to 1."""
    means = torch.stack([(scores[name] * mask).sum() / mask.sum().clamp(min=1) for name, mask in masks.items()])
    return (means.double() / means.double().sum().clamp(min=torch.finfo(torch.float64).tiny)).tolist()


def layer_drops(layers: LayerCounts, shares: Sequence[float], rate: float) -> list[int]:
    """Units each layer drops: `rate` of those it keeps, less for layers that are nearly full and in demand."""
    average = sum(shares) / len(shares)
    drops = []
    for kept, total, share in zip(layers.kept, layers.total, shares, strict=True):
        free = 1 - kept / total
        drops.append(num_dropped(kept, min(free, rate) if free < NEARLY_FULL and share > average else rate))
    return drops


def redistribute(layers: LayerCounts, shares: Sequence[float], rate: float, budget: int) -> RedistributionPlan:
    """Drop `rate` everywhere and grow back to `weight_budget` weights in all, by share.

    With units of one weight the budget is met exactly; with channels, to less than the smallest one.
    """
    drops = layer_drops(layers, shares, rate)
    left = [kept - dropped for kept, dropped in zip(layers.kept, drops, strict=True)]
    free = [total - kept for total, kept in zip(layers.total, left, strict=True)]
    need = budget - _weights(left, layers.size)
    caps = [int(FILL * places) for places in free]
    if _weights(caps, layers.size) < need:
        caps = free
    places = [cap * size for cap, size in zip(caps, layers.size, strict=True)]
    parts = [part / size for part, size in zip(apportion(need, shares, places), layers.size, strict=True)]
    return RedistributionPlan(drops, round_to_total(parts, need, caps, layers.size))


def _weights(units: Sequence[int], sizes: Sequence[int]) -> int:
    return sum(n * size for n, size in zip(units, sizes, strict=True))
