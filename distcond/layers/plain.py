"""Convolution, batch normalisation and linear layer that ignore the condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.layers.batch_norm_statistics import normalise_shared
from distcond.layers.condition import Condition


class Conv2d(nn.Conv2d):
    """Convolution without bias, padded to keep the size at stride 1; (N, C_in, H, W) to (N, C_out, H', W')."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        return self.convolve(x, self.effective_weight(cond))

    def effective_weight(self, cond: Condition) -> Tensor:
        """The weight at a uniform condition, shape of `weight`."""
        return self.weight

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve with this layer's stride and padding and another weight."""
        return F.conv2d(x, weight, bias, self.stride, self.padding)


class BatchNorm2d(nn.BatchNorm2d):
    """One set of statistics for every condition.

    `shared` = batch statistics over all ranks of the process group instead of this rank's rows.
    """

    def __init__(self, channels: int, shared: bool = False) -> None:
        super().__init__(channels)
        self.shared = shared

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if self.shared and self.training:
            return normalise_shared(self, x)
        return super().forward(x)

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) of this layer in eval mode."""
        return eval_affine(self)

    def routed(self, cond: Condition) -> nn.BatchNorm2d:
        """This layer, whatever the condition."""
        return self


def eval_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) of batch normalisation with its running statistics."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class Linear(nn.Linear):
    """(N, C) to (N, K)."""

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        return super().forward(x)


class NoModulation(nn.Module):
    """The identity, for methods without modulation. `channels` is accepted, as for every modulation, and ignored."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        return x

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor] | None:
        """None: nothing to fold."""
        return None
