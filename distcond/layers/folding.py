"""The units a network is made of between its activations, each of which folds into one operator when nothing moves.

In eval mode, for one route and one draw of noise, normalisation is an affine of fixed numbers per channel. Folded into
the weight (w' = w * scale per output channel, b' = shift), the attack runs convolutions with a bias and nothing else.
`assign_indices` gives every unit its place in the folded weights and every noisy layer its place in the flat noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcond.layers.condition import Condition, FoldedUnit
from distcond.layers.film import apply_modulation, compose_affines
from distcond.layers.layer_set import LayerSet
from distcond.layers.noisy import NoisyConv2d
from distcond.layers.paired import PairedLinear


class ConvNorm(nn.Module):
    """`modulate(norm(conv(x)))`; with `cond.folded`, one convolution. `index` is its place there."""

    def __init__(
        self,
        layers: LayerSet,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        modulated: bool = True,
    ) -> None:
        super().__init__()
        self.conv = layers.conv(in_channels, out_channels, kernel_size, stride)
        self.norm = layers.norm(out_channels)
        self.modulate = layers.modulate(out_channels) if modulated else None
        self.index = 0

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if cond.folded is not None:
            folded = cond.folded[self.index]
            x = self.conv.convolve(x, folded.weight, folded.bias)
            return x if folded.modulation is None else apply_modulation(x, *folded.modulation)
        x = self.norm(self.conv(x, cond), cond)
        return x if self.modulate is None else self.modulate(x, cond)

    def fold(self, cond: Condition, dtype: torch.dtype) -> FoldedUnit:
        """Weight and bias of the one convolution this unit amounts to; a modulation per row is computed beside it."""
        affine = self.norm.as_affine(cond)
        modulation, by_row = self.modulate.as_affine(cond) if self.modulate is not None else None, None
        if modulation is not None and cond.uniform:
            affine = compose_affines(affine, modulation)
        elif modulation is not None:
            by_row = modulation[0].to(dtype), modulation[1].to(dtype)
        weight = self.conv.effective_weight(cond) * affine[0][:, None, None, None]
        return FoldedUnit(weight.to(dtype), affine[1].to(dtype), by_row)


class ConvUnit(nn.Module):
    """`conv(x)`: the stem, the shortcuts and the last convolutions of a pre-activation network.

    With `cond.folded`, the convolution by what its weight amounts to, noise and mask included; `index` is its place
    there.
    """

    def __init__(
        self, layers: LayerSet, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = layers.conv(in_channels, out_channels, kernel_size, stride)
        self.index = 0

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if cond.folded is not None:
            return self.conv.convolve(x, cond.folded[self.index].weight)
        return self.conv(x, cond)

    def fold(self, cond: Condition, dtype: torch.dtype) -> FoldedUnit:
        """The weight as it is at `cond`, always a copy: later changes of the layer are not seen."""
        return FoldedUnit(self.conv.effective_weight(cond).to(dtype, copy=True), None)


class NormUnit(nn.Module):
    """`modulate(norm(x))`: what a pre-activation block does first (He et al. 2016b), and such a network last.

    The residual stream it reads goes on unchanged beside it, so it folds into no convolution. With `cond.folded` it is
    `x * scale + shift`; `index` is its place there.
    """

    def __init__(self, layers: LayerSet, channels: int, modulated: bool = True) -> None:
        super().__init__()
        self.norm = layers.norm(channels)
        self.modulate = layers.modulate(channels) if modulated else None
        self.index = 0

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if cond.folded is not None:
            folded = cond.folded[self.index]
            assert folded.bias is not None
            return apply_modulation(x, folded.weight, folded.bias)
        x = self.norm(x, cond)
        return x if self.modulate is None else self.modulate(x, cond)

    def fold(self, cond: Condition, dtype: torch.dtype) -> FoldedUnit:
        """Scale and shift (N|1, C): one per row where the modulation is per row, otherwise one for the pass."""
        affine = self.norm.as_affine(cond)
        modulation = self.modulate.as_affine(cond) if self.modulate is not None else None
        scale, shift = affine if modulation is None else compose_affines(affine, modulation)
        return FoldedUnit(torch.atleast_2d(scale).to(dtype), torch.atleast_2d(shift).to(dtype))


#: What a network is made of between its activations: what folds. A classifier does where networks have one each.
Unit = ConvNorm | ConvUnit | NormUnit | PairedLinear


def assign_indices(model: nn.Module) -> tuple[int, tuple[Unit, ...]]:
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
