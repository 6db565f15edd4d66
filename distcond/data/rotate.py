"""Turn images about their centre, to the nearest pixel, with one gather for the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def angles(batch_size: int, most: float, generator: torch.Generator) -> Tensor:
    """(B,) degrees, uniform in [-most, most]."""
    return (torch.rand(batch_size, generator=generator, device=generator.device) * 2 - 1) * most


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Turn each image of `x`, (B, H, W, C) uint8, by `degrees` (B,) counter-clockwise; zeros come in."""
    batch, height, width, channels = x.shape
    cos, sin = (part[:, None, None] for part in ((degrees * (math.pi / 180)).cos(), (degrees * (math.pi / 180)).sin()))
    down = (torch.arange(height, device=x.device) - (height - 1) / 2)[:, None]
    right = torch.arange(width, device=x.device) - (width - 1) / 2
    # Where the pixel at (down, right) of the centre comes from.
    row = (right * sin + down * cos + (height - 1) / 2).round().long()
    column = (right * cos - down * sin + (width - 1) / 2).round().long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    image = torch.arange(batch, device=x.device)[:, None, None] * height
    pixel = torch.where(inside, (image + row) * width + column, 0)
    turned = x.reshape(-1, channels).index_select(0, pixel.reshape(-1)).reshape(x.shape)
    return turned * inside[..., None]
