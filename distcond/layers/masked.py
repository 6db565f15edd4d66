"""Convolutions with masks: noise on kept weights only (FLOATS), two masks over one weight (SMART)."""

from __future__ import annotations

import torch
from torch import Tensor

from distcond.layers.condition import Condition
from distcond.layers.noisy import Amplitude, NoisyConv2d
from distcond.layers.plain import Conv2d


class MaskedNoisyConv2d(NoisyConv2d):
    """Noisy convolution of a sparse weight: noise on the kept weights only, scaled by their standard deviation.

    Noise on all weights would make the network dense at lam > 0. `mask` (shape of `weight`, True = kept) masks the
    noise only; whoever sets it also zeroes the weight.
    """

    mask: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, alpha: Amplitude = 0.25
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, alpha)
        self.register_buffer("mask", torch.ones_like(self.weight, dtype=torch.bool))

    def deviation(self) -> Tensor:
        """The deviation of the noise, shape of `weight`: that of the kept weights, and 0 on the others."""
        return self.mask * kept_std(self.weight.detach(), self.mask)


def kept_std(weight: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation (0-d) of the weights where `mask` is True: `weight[mask].std()` without synchronisation."""
    count = mask.sum()
    mean = (weight * mask).sum() / count.clamp(min=1)
    squares = ((weight - mean).square() * mask).sum()
    return (squares / (count - 1).clamp(min=1)).sqrt()


class MaskedConv2d(Conv2d):
    """One weight under two masks, `clean_mask` and `adv_mask` (shape of `weight`, True = kept), chosen by `cond.route`.

    Mask growth needs gradients outside the mask, where the weight's own gradient is zero. In training, the backward
    adds the dense gradient dL/d(weight * mask) of a path to `dense_gradients[route]` if a tensor is there.
    """

    clean_mask: Tensor
    adv_mask: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        for name in ("clean_mask", "adv_mask"):
            self.register_buffer(name, torch.ones_like(self.weight, dtype=torch.bool))
        self.dense_gradients: dict[bool, Tensor] = {}

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if isinstance(cond.route, bool):
            return self.convolve(x, self.effective_weight(cond))
        clean, adv = (self.convolve(x, self.path_weight(route)) for route in (False, True))
        return torch.where(cond.route[:, None, None, None], adv, clean)

    def effective_weight(self, cond: Condition) -> Tensor:
        """The weight of the routed path; the route must be one bool."""
        assert isinstance(cond.route, bool), "needs one route per pass: rows of both routes have two weights"
        return self.path_weight(cond.route)

    def mask(self, route: bool) -> Tensor:
        """The mask of the adversarial (True) or the clean path."""
        return self.adv_mask if route else self.clean_mask

    def path_weight(self, route: bool) -> Tensor:
        """weight * mask of one path; in training its gradient is accumulated."""
        weight = self.weight * self.mask(route)
        if self.training and route in self.dense_gradients and weight.requires_grad:
            accumulate_gradient(weight, self.dense_gradients[route])
        return weight


def accumulate_gradient(tensor: Tensor, total: Tensor) -> None:
    """Add the gradient of `tensor` to `total` in the backward; the gradient itself does not change."""

    def add(gradient: Tensor) -> None:
        total.add_(gradient)

    tensor.register_hook(add)
