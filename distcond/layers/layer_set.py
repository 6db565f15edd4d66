"""The parts a model is built from: give a model another set and it becomes another method's network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from distcond.condition import Condition
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.layers.noisy import NoisyConv2d
from distcond.layers.plain import BatchNorm2d, Conv2d, Linear, NoModulation


class Norm(Protocol):
    """A normalisation; `affine` is the scale and shift (C,) that it amounts to in eval mode."""

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor]: ...
    def __call__(self, x: Tensor, cond: Condition) -> Tensor: ...


class Modulation(Protocol):
    """What follows a normalisation; `affine` is its scale and shift (C,) for a uniform condition, None for none."""

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor] | None: ...
    def __call__(self, x: Tensor, cond: Condition) -> Tensor: ...


class LayerSet(NamedTuple):
    """Makers of modules that are called `(x, cond)`."""

    conv: Callable[..., Conv2d]  # (in_channels, out_channels, kernel_size=3, stride=1)
    norm: Callable[[int], Norm]  # (channels)
    modulate: Callable[[int], Modulation] = NoModulation  # (channels)
    linear: Callable[[int, int], nn.Module] = Linear  # (in_features, out_features)


def plain(shared: bool = False) -> LayerSet:
    """One network, no conditioning: PGD-AT, TRADES, standard training, the Birds."""
    return LayerSet(Conv2d, partial(BatchNorm2d, shared=shared))


def dual(shared: bool = False) -> LayerSet:
    """Plain weights with dual batch normalisation."""
    return LayerSet(Conv2d, partial(DualBatchNorm2d, shared=shared))


def noisy(alpha: float = 0.25, shared: bool = False) -> LayerSet:
    """Weight noise with dual batch normalisation: FLOAT. `alpha` is where the learned amplitude starts."""
    return LayerSet(partial(NoisyConv2d, alpha=alpha), partial(DualBatchNorm2d, shared=shared))
