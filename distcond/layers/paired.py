"""Two independent networks in one, chosen by `cond.route`; `python -m distcond.pair` makes them from two runs.

False = the standard run's network, True = the robust run's. Every unit exists twice. The classifier does too and is a
foldable unit, so that weight blends include it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.layers.condition import Condition, FoldedUnit
from distcond.layers.plain import Conv2d, Linear


class PairedConv2d(nn.Module):
    """A convolution of each network; see `plain.Conv2d`."""

    #: Marks networks made of two runs (`ConditionalModel.two_networks`).
    two_networks = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.clean, self.adv = (Conv2d(in_channels, out_channels, kernel_size, stride) for _ in range(2))

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if isinstance(cond.route, bool):
            return self.convolve(x, self.effective_weight(cond))
        return torch.where(cond.route[:, None, None, None], self.adv(x, cond), self.clean(x, cond))

    def effective_weight(self, cond: Condition) -> Tensor:
        """The weight of the routed network; the route must be one bool."""
        assert isinstance(cond.route, bool), "needs one route per pass: rows of both routes have two weights"
        return (self.adv if cond.route else self.clean).weight

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve with these layers' stride and padding and another weight."""
        return self.clean.convolve(x, weight, bias)


class PairedLinear(nn.Module):
    """A classifier of each network, (N, C) to (N, K); `index` is its index in `cond.folded`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.clean, self.adv = (Linear(in_features, out_features) for _ in range(2))
        self.index = 0

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if cond.folded is not None:
            return F.linear(x, *cond.folded[self.index][:2])
        if isinstance(cond.route, bool):
            return (self.adv if cond.route else self.clean)(x, cond)
        return torch.where(cond.route[:, None], self.adv(x, cond), self.clean(x, cond))

    def fold(self, cond: Condition, dtype: torch.dtype) -> FoldedUnit:
        """Copies of the weight (K, C) and bias (K,) of the routed network's classifier."""
        head = self.adv if cond.route else self.clean
        return FoldedUnit(head.weight.to(dtype, copy=True), head.bias.to(dtype, copy=True))
