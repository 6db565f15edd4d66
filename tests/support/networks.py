"""Tiny networks that are not as they start, images for them, and when two of their answers are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distcond.layers.masked import MaskedConv2d, MaskedNoisyConv2d
from distcond.models.conditional import ConditionalModel
from distcond.runs.build import build_model


def shaken(tiny: Callable[..., Any], method: str, model: str = "small_cnn", **settings: Any) -> ConditionalModel:
    """A tiny network whose statistics, affines and masks are no longer those of the start."""
    net = build_model(tiny(method, model, **settings))
    source = torch.Generator().manual_seed(1)
    for name, tensor in net.backbone.state_dict().items():
        if ".norm" in name and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=source))
    for layer in net.modules():
        if isinstance(layer, MaskedConv2d | MaskedNoisyConv2d):
            for mask in layer.buffers():
                mask.copy_(torch.rand(mask.shape, generator=source) < 0.5)
        if isinstance(layer, MaskedNoisyConv2d):
            layer.weight.data.mul_(layer.mask)
    return net.eval()


def images(model: str = "small_cnn", count: int = 4) -> Tensor:
    size = 32 if model == "resnet50" else 8
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1))
