"""Shift and mirror images by whole pixels, with one gather for the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def shift_and_flip(x: Tensor, shift: Tensor, flip: Tensor, pad: int) -> Tensor:
    """Shift (zeros come in) and then mirror each image of `x`, (B, H, W, C) uint8; the same shape and type come back.

    Args:
        x: the images.
        shift: (B, 2) int64, first row and column of the crop in the image padded by `pad`, in [0, 2 * pad].
        flip: (B,) bool.
        pad: zeros around an image.
    """
    _, height, width, channels = x.shape
    # One gather of whole pixels: a slice per image would launch B kernels, and floats would move 4 times the bytes.
    padded = F.pad(x, (0, 0, pad, pad, pad, pad)).reshape(-1, channels)
    column = torch.arange(width, device=x.device)
    column = torch.where(flip[:, None], width - 1 - column, column) + shift[:, 1:]
    row = torch.arange(height, device=x.device) + shift[:, :1]
    image = torch.arange(len(x), device=x.device)[:, None, None] * (height + 2 * pad)
    pixel = (image + row[:, :, None]) * (width + 2 * pad) + column[:, None, :]
    return padded.index_select(0, pixel.reshape(-1)).reshape(x.shape)
