"""Convolution, normalisation and modulation as one unit, which folds into one convolution when nothing moves.

In eval mode, for one route and one draw of noise, normalisation is an affine of fixed numbers per channel. Folded into
the weight (w' = w * scale per output channel, b' = shift), the attack runs convolutions with a bias and nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcond.condition import Condition, Folded
from distcond.layers.film import composed, modulated
from distcond.layers.layer_set import LayerSet


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
            return x if folded.modulation is None else modulated(x, *folded.modulation)
        x = self.norm(self.conv(x, cond), cond)
        return x if self.modulate is None else self.modulate(x, cond)

    def fold(self, cond: Condition, dtype: torch.dtype) -> Folded:
        """Weight and bias of the one convolution this unit amounts to; a modulation per row is computed beside it."""
        affine = self.norm.as_affine(cond)
        modulation, by_row = self.modulate.as_affine(cond) if self.modulate is not None else None, None
        if modulation is not None and cond.uniform:
            affine = composed(affine, modulation)
        elif modulation is not None:
            by_row = modulation[0].to(dtype), modulation[1].to(dtype)
        weight = self.conv.effective_weight(cond) * affine[0][:, None, None, None]
        return Folded(weight.to(dtype), affine[1].to(dtype), by_row)
