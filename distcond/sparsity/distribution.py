"""How many weights each layer keeps at a global density; every distribution meets the total exactly.

Each takes the shapes of the layers by name and the total, and gives a count per layer, at least 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from distcond.sparsity.apportion import spread, whole

Shapes = Mapping[str, Sequence[int]]
Distribution = Callable[[Shapes, int], dict[str, int]]

_HALVINGS = 200


def budget(num_weights: int, density: float) -> int:
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
    return _rounded(shapes, spread(total, shares, _sizes(shapes)), total)


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
    return dict(zip(shapes, whole(parts, total, _sizes(shapes), least=1), strict=True))
