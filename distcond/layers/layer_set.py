"""The parts a model is built from: give a model another set and it becomes another method's network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.layers.noisy import NoisyConv2d
from distcond.layers.plain import BatchNorm2d, Conv2d, Linear, NoModulation


class LayerSet(NamedTuple):
    """Makers of modules that are called `(x, cond)`."""

    conv: Callable[..., nn.Module]  # (in_channels, out_channels, kernel_size=3, stride=1)
    norm: Callable[[int], nn.Module]  # (channels)
    modulate: Callable[[int], nn.Module] = NoModulation  # (channels)
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
