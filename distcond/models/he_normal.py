"""Initial weights by He et al. 2015: a normal distribution that keeps the variance of gradients through ReLUs."""

from __future__ import annotations

from torch import nn


def he_normal(net: nn.Module) -> None:
    """Draw the weights of every convolution of `net` anew: N(0, 2 / (k k C_out))."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
