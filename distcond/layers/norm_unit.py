"""A normalisation that no convolution comes right before, as a unit that folds: one affine per channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcond.condition import Condition, Folded
from distcond.layers.film import composed, modulated
from distcond.layers.layer_set import LayerSet


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
            return modulated(x, folded.weight, folded.bias)
        x = self.norm(x, cond)
        return x if self.modulate is None else self.modulate(x, cond)

    def fold(self, cond: Condition, dtype: torch.dtype) -> Folded:
        """Scale and shift (N|1, C): one per row where the modulation is per row, otherwise one for the pass."""
        affine = self.norm.as_affine(cond)
        modulation = self.modulate.as_affine(cond) if self.modulate is not None else None
        scale, shift = affine if modulation is None else composed(affine, modulation)
        return Folded(torch.atleast_2d(scale).to(dtype), torch.atleast_2d(shift).to(dtype))
