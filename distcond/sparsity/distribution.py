"""How many weights each layer keeps: initial distributions, and redistribution between layers by momentum.

Every distribution (uniform, ERK, ideal-gas quotas) meets the global budget exactly, with at least 1 weight per layer.
Redistribution is sparse momentum (Dettmers & Zettlemoyer 2019): every layer drops a share of its weights, and layers
grow weights in proportion to their momentum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.errors import ConfigError
from distcond.sparsity.update import num_dropped

#: Weight name -> shape.
Shapes = Mapping[str, Sequence[int]]
#: (shapes, number of kept weights in all) -> kept weights per layer.
Distribution = Callable[[Shapes, int], dict[str, int]]

#: Largest share of a layer's free units that one update fills.
MAX_FILL = 0.99
#: A layer with a sparsity below this and an above-average share drops no more than its sparsity.
NEARLY_FULL = 0.2

_NUM_BISECTIONS = 200


def weight_budget(num_weights: int, density: float) -> int:
    """The number of kept weights in all: `density * num_weights`, rounded to nearest, at least 1."""
    return max(1, int(density * num_weights + 0.5))


def uniform(shapes: Shapes, total: int) -> dict[str, int]:
    """The same density in every layer."""
    sizes = _sizes(shapes)
    return _rounded(shapes, [n * total / sum(sizes) for n in sizes], total)


def erk(shapes: Shapes, total: int) -> dict[str, int]:
    """Erdos-Renyi-Kernel (Evci et al. 2020): counts proportional to the sum of a layer's dimensions.

    A layer that would exceed its size is dense; the other layers share the rest.
    """
    shares = [float(sum(shape)) for shape in shapes.values()]
    return _rounded(shapes, apportion(total, shares, _sizes(shapes)), total)


def igq(shapes: Shapes, total: int) -> dict[str, int]:
    """Ideal-gas quotas (Vysogorets & Kempe, arXiv 2107.02306): n / (force * n + 1) of n weights.

    Bisection finds the force that meets the total.
    """
    sizes = _sizes(shapes)
    low, high = 0.0, float(len(sizes)) / total
    for _ in range(_NUM_BISECTIONS):
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


class LayerCounts(NamedTuple):
    """Units (weights or channels) per layer."""

    kept: Sequence[int]
    total: Sequence[int]
    size: Sequence[int]  # weights per unit


class RedistributionPlan(NamedTuple):
    """Units to drop, then to grow, per layer."""

    drops: list[int]
    grows: list[int]


def momentum_shares(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> list[float]:
    """Each layer's mean score over its kept weights, normalised to a sum of 1 over layers."""
    means = torch.stack([(scores[name] * mask).sum() / mask.sum().clamp(min=1) for name, mask in masks.items()])
    return (means.double() / means.double().sum().clamp(min=torch.finfo(torch.float64).tiny)).tolist()


def layer_drops(layers: LayerCounts, shares: Sequence[float], rate: float) -> list[int]:
    """Units that each layer drops: `rate` of its kept ones, less for nearly full layers with an above-average share."""
    average = sum(shares) / len(shares)
    drops = []
    for kept, total, share in zip(layers.kept, layers.total, shares, strict=True):
        free = 1 - kept / total
        drops.append(num_dropped(kept, min(free, rate) if free < NEARLY_FULL and share > average else rate))
    return drops


def redistribute(layers: LayerCounts, shares: Sequence[float], rate: float, budget: int) -> RedistributionPlan:
    """Drop `rate` in every layer and grow to `budget` weights in all, distributed by `shares`.

    Single weights meet the budget exactly; channels miss it by less than the smallest channel.
    """
    drops = layer_drops(layers, shares, rate)
    left = [kept - dropped for kept, dropped in zip(layers.kept, drops, strict=True)]
    free = [total - kept for total, kept in zip(layers.total, left, strict=True)]
    num_grown = budget - _count_weights(left, layers.size)
    caps = [int(MAX_FILL * units) for units in free]
    if _count_weights(caps, layers.size) < num_grown:
        caps = free
    weight_caps = [cap * size for cap, size in zip(caps, layers.size, strict=True)]
    parts = [part / size for part, size in zip(apportion(num_grown, shares, weight_caps), layers.size, strict=True)]
    return RedistributionPlan(drops, round_to_total(parts, num_grown, caps, layers.size))


def apportion(total: float, shares: Sequence[float], caps: Sequence[float]) -> list[float]:
    """Split `total` in proportion to `shares`, each part at most its cap; the excess goes to the other parts.

    If all shares are zero, the caps are the shares. The parts add up to min(total, sum of caps).
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
    """Round `parts` to whole units, each from `least` to its cap, whose sizes add up to `total`.

    Units of size 1 meet `total` exactly (largest remainder); larger units miss it by less than one unit. Ties go to the
    earlier part.

    Raises:
        ConfigError: `least` units for each part exceed `total`.
    """
    sizes = sizes or [1] * len(parts)
    units = [min(cap, max(least, int(part))) for part, cap in zip(parts, caps, strict=True)]
    left = total - _count_weights(units, sizes)
    while left < 0:
        largest = max(range(len(units)), key=lambda i: (units[i] - least) * sizes[i])
        if units[largest] <= least:
            raise ConfigError(f"density: {total} weights cannot give each of {len(units)} layers {least} units")
        units[largest] -= 1
        left += sizes[largest]
    return _add_units(units, left, caps, sizes, sorted(range(len(parts)), key=lambda i: int(parts[i]) - parts[i]))


def _add_units(
    units: list[int], left: int, caps: Sequence[int], sizes: Sequence[int], order: Sequence[int]
) -> list[int]:
    """Add one unit to each part in `order`, repeatedly, while one fits into `left` weights."""
    added = True
    while added:
        added = False
        for i in order:
            if units[i] < caps[i] and sizes[i] <= left:
                units[i], left, added = units[i] + 1, left - sizes[i], True
    return units


def _count_weights(units: Sequence[int], sizes: Sequence[int]) -> int:
    return sum(n * size for n, size in zip(units, sizes, strict=True))
