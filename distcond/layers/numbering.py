"""Give every noisy layer its place in the flat noise and every foldable unit its place in the folded weights."""

from __future__ import annotations

from torch import nn

from distcond.layers.conv_norm import ConvNorm
from distcond.layers.conv_unit import ConvUnit
from distcond.layers.noisy import NoisyConv2d
from distcond.layers.norm_unit import NormUnit
from distcond.layers.paired import PairedLinear

#: What a network is made of between its activations: what folds. A classifier does where networks have one each.
Unit = ConvNorm | ConvUnit | NormUnit | PairedLinear


def number(model: nn.Module) -> tuple[int, tuple[Unit, ...]]:
    """Number the layers of `model` in module order.

    Returns:
        The size P of the flat noise (0 for models without noise) and the foldable units in the order of their index.
    """
    noise_size = 0
    units: list[Unit] = []
    for module in model.modules():
        if isinstance(module, NoisyConv2d):
            module.noise_start = noise_size
            noise_size += module.weight.numel()
        if isinstance(module, Unit):
            module.index = len(units)
            units.append(module)
    return noise_size, tuple(units)
