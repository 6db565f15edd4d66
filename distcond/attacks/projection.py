"""The threat model: an Lp ball of radius epsilon around each image, clipped to [0, 1]. Projection and random starts."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-12


def project(moved: Tensor, x: Tensor, norm: str, epsilon: float) -> Tensor:
    """Project `moved` onto the images within `epsilon` of x in [0, 1]; all (N, C, H, W).

    L2 projects onto the ball first: clipping to [0, 1] afterwards only reduces the distance to x.
    """
    delta = moved - x
    if norm == "Linf":
        delta = delta.clamp(-epsilon, epsilon)
    else:
        delta = delta * (epsilon / l2_norms(delta).clamp(min=_TINY)).clamp(max=1)
    return (x + delta).clamp(0, 1)


def steepest_direction(grad: Tensor, norm: str) -> Tensor:
    """The direction of steepest ascent with unit length in `norm`, like grad (N, C, H, W)."""
    return grad.sign() if norm == "Linf" else grad / l2_norms(grad).clamp(min=_TINY)


def random_init(unit: Tensor, norm: str, epsilon: float) -> Tensor:
    """A random offset in the ball from `unit` (N, C, H, W), uniform in [-1, 1].

    Linf: uniform in the ball. L2: the direction of `unit` cubed, with a length uniform in [0, epsilon].
    """
    if norm == "Linf":
        return unit * epsilon
    direction = unit**3
    length = unit.flatten(1)[:, :1].abs()[:, :, None, None]
    return direction / l2_norms(direction).clamp(min=_TINY) * (length * epsilon)


def l2_norms(delta: Tensor) -> Tensor:
    """Euclidean length of each row, (N, 1, 1, 1)."""
    return torch.linalg.vector_norm(delta.flatten(1), dim=1)[:, None, None, None]


def perturbation_norms(delta: Tensor, norm: str) -> Tensor:
    """Length of each row in `norm`, (N,)."""
    return delta.flatten(1).abs().amax(1) if norm == "Linf" else torch.linalg.vector_norm(delta.flatten(1), dim=1)
