"""A convolution that no normalisation follows, as a unit that folds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcond.condition import Condition, Folded
from distcond.layers.layer_set import LayerSet


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

    def fold(self, cond: Condition, dtype: torch.dtype) -> Folded:
        """The weight as it is at `cond`, always a copy: later changes of the layer are not seen."""
        return Folded(self.conv.effective_weight(cond).to(dtype, copy=True), None)
