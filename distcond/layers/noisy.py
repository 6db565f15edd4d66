"""Weight noise scaled by lam: the conditioning of FLOAT (arXiv 2204.00426, section 3).

    w_eff = w + lam * alpha * eta,   eta ~ N(0, std(w)^2)

alpha is learned: one number per layer, per output channel or per weight, or one for all layers.

The noise comes with the condition and is never drawn here: drawing from the global generator would disturb the random
numbers of attacks and give another stream once compiled.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from distcond.layers.condition import Condition
from distcond.layers.plain import Conv2d

Granularity = Literal["layer", "channel", "weight"]


class OwnAmplitude(NamedTuple):
    """The initial amplitude of each layer, and what in a layer has one of its own."""

    value: float
    by: Granularity = "layer"

    def parameter(self, weight: Tensor) -> nn.Parameter:
        """The amplitude of a convolution with `weight`: 0-d, (C_out, 1, 1, 1), or the shape of the weight."""
        shape = {"layer": (), "channel": (len(weight), 1, 1, 1), "weight": tuple(weight.shape)}[self.by]
        return nn.Parameter(torch.full(shape, self.value))


#: Initial value of each layer's own amplitude, or one parameter (0-d) for all layers of one network.
Amplitude = float | OwnAmplitude | nn.Parameter


class NoisyConv2d(Conv2d):
    """Convolution with lam-scaled noise on its weight; at lam = 0 it equals the plain convolution bit for bit.

    `alpha` is the initial amplitude of this layer, or a parameter shared with other layers. `noise_start` is the offset
    in `cond.noise`, set by `folding.assign_indices`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, alpha: Amplitude = 0.25
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        alpha = OwnAmplitude(alpha) if isinstance(alpha, float | int) else alpha
        self.alpha = alpha if isinstance(alpha, nn.Parameter) else alpha.parameter(self.weight)
        self.noise_start = 0

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if cond.noise is None or cond.uniform:
            return self.convolve(x, self.effective_weight(cond))
        # Convolution is linear in the weight, so a second convolution gives one amplitude per row exactly.
        noisy = self.convolve(x, self.slice_weight(self.alpha * self.scaled_noise(cond.noise), cond))
        plain = self.convolve(x, self.slice_weight(self.weight, cond))
        return plain + cond.lam[:, None, None, None].to(noisy.dtype) * noisy

    def effective_weight(self, cond: Condition) -> Tensor:
        """w + lam * alpha * eta for a uniform condition, shape of `weight`."""
        if cond.noise is None:
            return self.slice_weight(self.weight, cond)
        return self.slice_weight(self.weight + (cond.lam * self.alpha) * self.scaled_noise(cond.noise), cond)

    def amplitude(self, cond: Condition) -> Tensor:
        """`alpha` of the part that this pass uses, 0-d or broadcastable to the weight of the pass."""
        return self.slice_weight(self.alpha, cond) if self.alpha.dim() else self.alpha

    def slice_weight(self, weight: Tensor, cond: Condition) -> Tensor:
        """The part of a tensor shaped like `weight` that this pass uses: all of it, unless the layer is slimmable."""
        return weight

    def scaled_noise(self, noise: Tensor) -> Tensor:
        """This layer's part of flat standard normal noise (P,), scaled by `deviation`."""
        own = noise[self.noise_start : self.noise_start + self.weight.numel()]
        return own.view_as(self.weight) * self.deviation()

    def deviation(self) -> Tensor:
        """The standard deviation of the noise, one number (0-d) or one per weight: that of the weights.

        It has no gradient, as in the authors' code, and is not copied to the host.
        """
        return self.weight.detach().std()
