"""Random shift and flip on uint8 pixels, wherever the batch lies: draws for the global batch, one gather per share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.data.dataset import Augment


class Draw(NamedTuple):
    """What happens to each image of a batch of B."""

    flip: Tensor  # (B,) bool
    shift: Tensor  # (B, 2) int64, first row and column of the crop in the padded image, in [0, 2 * pad]
    pad: int

    def share(self, rank: int, world: int) -> Draw:
        """The rows of one rank: as its images, `[rank::world]`."""
        return Draw(self.flip[rank::world], self.shift[rank::world], self.pad)


def draw(batch_size: int, augment: Augment, generator: torch.Generator) -> Draw:
    """Draw for a whole global batch, on the generator's device.

    Both are always drawn, so that switching one off leaves the other's stream as it was.
    """
    device = generator.device
    flip = torch.randint(2, (batch_size,), generator=generator, device=device).bool()
    shift = torch.randint(2 * augment.pad + 1, (batch_size, 2), generator=generator, device=device)
    return Draw(flip if augment.flip else torch.zeros_like(flip), shift, augment.pad)


def apply(x: Tensor, draw: Draw) -> Tensor:
    """Shift (zeros come in) and then flip each image of `x`, (B, H, W, C) uint8; the same shape and type come back."""
    batch, height, width, channels = x.shape
    if not batch:
        return x
    pad = draw.pad
    # One gather of whole pixels: a slice per image would launch B kernels, and floats would move 4 times the bytes.
    padded = F.pad(x, (0, 0, pad, pad, pad, pad)).reshape(-1, channels)
    column = torch.arange(width, device=x.device)
    column = torch.where(draw.flip[:, None], width - 1 - column, column) + draw.shift[:, 1:]
    row = torch.arange(height, device=x.device) + draw.shift[:, :1]
    image = torch.arange(batch, device=x.device)[:, None, None] * (height + 2 * pad)
    pixel = (image + row[:, :, None]) * (width + 2 * pad) + column[:, None, :]
    return padded.index_select(0, pixel.reshape(-1)).reshape(x.shape)
