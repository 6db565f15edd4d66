"""Cut a random part out of each image and scale it to one size (Szegedy et al. 2015), as one bilinear resampling.

There is no low-pass filter: images stored at 8/7 of the network's size shrink too little for one to matter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

#: Width over height of the part.
ASPECT = (3 / 4, 4 / 3)
#: Draws after which the whole image is taken.
TRIES = 10


def boxes(batch_size: int, area: tuple[float, float], generator: torch.Generator) -> Tensor:
    """(B, 4) float32: top, left, height and width of a part of each square image, as shares of its side.

    The area is uniform in `area` and the logarithm of the aspect uniform; what does not fit in is drawn anew.
    """
    drawn = torch.rand(batch_size, TRIES, 2, generator=generator, device=generator.device)
    place = torch.rand(batch_size, 2, generator=generator, device=generator.device)
    share = area[0] + (area[1] - area[0]) * drawn[..., 0]
    least, most = math.log(ASPECT[0]), math.log(ASPECT[1])
    aspect = (least + (most - least) * drawn[..., 1]).exp()
    sides = torch.stack([(share / aspect).sqrt(), (share * aspect).sqrt()], dim=-1)  # (B, TRIES, 2) height, width
    fits = (sides <= 1).all(-1)
    first = fits.int().argmax(1)
    size = torch.where(fits.any(1)[:, None], sides[torch.arange(batch_size, device=sides.device), first], 1.0)
    return torch.cat([place * (1 - size), size], dim=1)


def resized_crop(x: Tensor, box: Tensor, flip: Tensor, side: int) -> Tensor:
    """The parts `box` (as of `boxes`) of `x`, (B, S, S, C) uint8, scaled to (B, side, side, C) and then mirrored.

    `flip` is (B,) bool.
    """
    centre = (torch.arange(side, device=x.device) + 0.5) / side
    along = torch.where(flip[:, None], 1 - centre, centre)
    row, column = box[:, :1] + centre * box[:, 2:3], box[:, 1:2] + along * box[:, 3:]
    grid = torch.stack(
        [column[:, None].expand(-1, side, -1), row[:, :, None].expand(-1, -1, side)], dim=-1
    )  # (B, side, side, 2) as shares of the side
    pixels = x.permute(0, 3, 1, 2).to(torch.float32)
    part = F.grid_sample(pixels, grid * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False)
    return part.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
