"""Random changes of uint8 pixels, wherever the batch lies: draws for the global batch, one operation per share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distcond.data.dataset import Augment
from distcond.data.resized_crop import boxes, resized_crop
from distcond.data.rotate import angles, rotate
from distcond.data.shift import shift_and_flip


class Draw(NamedTuple):
    """What happens to each image of a batch of B."""

    flip: Tensor  # (B,) bool
    shift: Tensor  # (B, 2) int64, first row and column of the crop in the padded image, in [0, 2 * pad]
    pad: int
    angle: Tensor | None = None  # (B,) degrees counter-clockwise
    box: Tensor | None = None  # (B, 4), the part that is cut out instead of the shift, see `resized_crop.boxes`

    def share(self, rank: int, world: int) -> Draw:
        """The rows of one rank: as its images, `[rank::world]`."""
        rows = slice(rank, None, world)
        angle, box = (None if drawn is None else drawn[rows] for drawn in (self.angle, self.box))
        return Draw(self.flip[rows], self.shift[rows], self.pad, angle, box)


def draw(batch_size: int, augment: Augment, generator: torch.Generator) -> Draw:
    """Draw for a whole global batch, on the generator's device.

    Flip and shift are always drawn, so that switching one off leaves the other's stream as it was.
    """
    device = generator.device
    flip = torch.randint(2, (batch_size,), generator=generator, device=device).bool()
    shift = torch.randint(2 * augment.pad + 1, (batch_size, 2), generator=generator, device=device)
    angle = angles(batch_size, augment.rotate, generator) if augment.rotate else None
    box = boxes(batch_size, augment.crop, generator) if augment.crop else None
    return Draw(flip if augment.flip else torch.zeros_like(flip), shift, augment.pad, angle, box)


def apply(x: Tensor, draw: Draw, side: int = 0) -> Tensor:
    """Crop or shift, then mirror, then turn each image of `x`, (B, H, W, C) uint8.

    The same shape and type come back, or after a crop (B, side, side, C).
    """
    if draw.box is not None:
        x = resized_crop(x, draw.box, draw.flip, side) if len(x) else x.new_empty(0, side, side, x.shape[3])
    elif len(x):
        x = shift_and_flip(x, draw.shift, draw.flip, draw.pad)
    return rotate(x, draw.angle) if draw.angle is not None and len(x) else x
