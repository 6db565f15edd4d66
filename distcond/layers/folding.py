"""The units between a network's activations. In eval mode each folds into one operator.

For one route and one draw of noise, normalisation is a fixed affine map per channel. Folded into the weight
(w' = w * scale per output channel, b' = shift), an attack runs convolutions with a bias and nothing else.
`assign_indices` gives every unit its index in `Condition.folded` and every noisy layer its offset in `Condition.noise`.
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
    """`modulate(norm(conv(x)))`. With `cond.folded` it is the one convolution `cond.folded[index]`."""

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
        """Weight and bias of the equivalent convolution; a modulation per row stays separate."""
        scale, bias, per_row = self.fold_norm(cond, dtype)
        weight = self.conv.effective_weight(cond) * scale[:, None, None, None]
        return FoldedUnit(weight.to(dtype), bias, per_row)

    def fold_norm(self, cond: Condition, dtype: torch.dtype) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """What follows the convolution: the scale (C_out,) of its weight, the bias, the modulation per row if any."""
        affine = self.norm.as_affine(cond)
        modulation, per_row = self.modulate.as_affine(cond) if self.modulate is not None else None, None
        if modulation is not None and cond.uniform:
            affine = compose_affines(affine, modulation)
        elif modulation is not None:
            per_row = modulation[0].to(dtype), modulation[1].to(dtype)
        return affine[0], affine[1].to(dtype), per_row


class ConvUnit(nn.Module):
    """`conv(x)`: stem, shortcuts and last convolutions of a block in a pre-activation network.

    With `cond.folded` it convolves with the weight `cond.folded[index]`, noise and mask included.
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
        """The effective weight at `cond`, always a copy: later changes of the layer do not affect it."""
        return FoldedUnit(self.conv.effective_weight(cond).to(dtype, copy=True), None)


class NormUnit(nn.Module):
    """`modulate(norm(x))`: starts a pre-activation block (He et al. 2016b) and ends such a network.

    The residual stream bypasses it, so it folds into no convolution. With `cond.folded` it is `x * scale + shift` with
    the values of `cond.folded[index]`.
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
        """Scale and shift (N|1, C): per row if the modulation is, otherwise one for all rows."""
        affine = self.norm.as_affine(cond)
        modulation = self.modulate.as_affine(cond) if self.modulate is not None else None
        scale, shift = affine if modulation is None else compose_affines(affine, modulation)
        return FoldedUnit(torch.atleast_2d(scale).to(dtype), torch.atleast_2d(shift).to(dtype))


#: The modules that fold. A classifier is one of them only where each of two networks has its own.
Unit = ConvNorm | ConvUnit | NormUnit | PairedLinear


def assign_indices(model: nn.Module) -> tuple[int, tuple[Unit, ...]]:
    """Number the units and noisy layers of `model` in module order.

    Returns:
        The size P of the flat noise (0 for models without noise), and the units in the order of their index.
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
