"""Whole numbers that add up to a budget: the arithmetic behind every density that is kept exactly."""

from __future__ import annotations

from collections.abc import Sequence

from distcond.errors import ConfigError


def spread(total: float, shares: Sequence[float], caps: Sequence[float]) -> list[float]:
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


def whole(
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
