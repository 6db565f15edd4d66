"""Weights with scaled noise: the conditioning of FLOAT (arXiv 2204.00426, section 3).

    w_eff = w + lam * alpha * eta,   eta ~ N(0, std(w)^2),   alpha one learned scalar per layer, or one for all

The noise is handed in through the condition, never drawn here: a layer that draws from the global generator would
reset an attacker's own random numbers and give another stream once compiled.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcond.layers.condition import Condition
from distcond.layers.plain import Conv2d

#: A start for each layer's own amplitude, or the one amplitude of all layers (0-d), which is of one network only.
Amplitude = float | nn.Parameter


class NoisyConv2d(Conv2d):
    """Convolution whose weight carries lam-scaled noise; at lam = 0 it is the plain convolution bit for bit.

    `alpha` is where this layer's amplitude starts, or a parameter that it shares with others. `noise_start` is its
    place in `cond.noise`, set by `layers.numbering.number`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, alpha: Amplitude = 0.25
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.alpha = alpha if isinstance(alpha, nn.Parameter) else nn.Parameter(torch.tensor(alpha))
        self.noise_start = 0

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if cond.noise is None or cond.uniform:
            return self.convolve(x, self.effective_weight(cond))
        # Convolution is linear in the weight, so an amplitude per row is exact at the price of a second convolution.
        noisy = self.convolve(x, self.cut(self.alpha * self.scaled_noise(cond.noise), cond))
        return self.convolve(x, self.cut(self.weight, cond)) + cond.lam[:, None, None, None].to(noisy.dtype) * noisy

    def effective_weight(self, cond: Condition) -> Tensor:
        """w + lam * alpha * eta for a uniform condition, shape of `weight`."""
        if cond.noise is None:
            return self.cut(self.weight, cond)
        return self.cut(self.weight + (cond.lam * self.alpha) * self.scaled_noise(cond.noise), cond)

    def cut(self, weight: Tensor, cond: Condition) -> Tensor:
        """The part of a tensor shaped like `weight` that takes part in this pass: all of it."""
        return weight

    def scaled_noise(self, noise: Tensor) -> Tensor:
        """This layer's part of a flat standard normal draw, with the standard deviation of the weights.

        The deviation carries no gradient, as in the authors' code; it is never brought to the host.
        """
        mine = noise[self.noise_start : self.noise_start + self.weight.numel()]
        return mine.view_as(self.weight) * self.weight.detach().std()
