"""The threat model: a norm ball around each image, cut to [0, 1]. Projection, steepest direction, random start."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-12


def project(moved: Tensor, x: Tensor, norm: str, epsilon: float) -> Tensor:
    """The point nearest to `moved` within `epsilon` of x and inside [0, 1]; all (N, C, H, W).

    For L2 the ball comes first and the box second: cutting to the box only shortens the way back to x.
    """
    delta = moved - x
    if norm == "Linf":
        delta = delta.clamp(-epsilon, epsilon)
    else:
        delta = delta * (epsilon / lengths(delta).clamp(min=_TINY)).clamp(max=1)
    return (x + delta).clamp(0, 1)


def steepest_direction(grad: Tensor, norm: str) -> Tensor:
    """The steepest direction of unit length in `norm`."""
    return grad.sign() if norm == "Linf" else grad / lengths(grad).clamp(min=_TINY)


def random_init(unit: Tensor, norm: str, epsilon: float) -> Tensor:
    """A random offset in the ball from `unit` (N, C, H, W), uniform in [-1, 1].

    Uniform over the ball for Linf. For L2: the direction of `unit` cubed, at a length uniform in [0, epsilon].
    """
    if norm == "Linf":
        return unit * epsilon
    direction = unit**3
    length = unit.flatten(1)[:, :1].abs()[:, :, None, None]
    return direction / lengths(direction).clamp(min=_TINY) * (length * epsilon)


def lengths(delta: Tensor) -> Tensor:
    """Euclidean length per row, shape (N, 1, 1, 1)."""
    return torch.linalg.vector_norm(delta.flatten(1), dim=1)[:, None, None, None]


def distances(delta: Tensor, norm: str) -> Tensor:
    """The length of each row in `norm`, shape (N,)."""
    return delta.flatten(1).abs().amax(1) if norm == "Linf" else torch.linalg.vector_norm(delta.flatten(1), dim=1)
