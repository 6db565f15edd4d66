"""Augmentation of training images on uint8 batches: shift, flip, rotation, random resized crop; and CutMix.

Random numbers are drawn for the global batch. Each transform is one gather or resampling of a batch on its device. The
resized crop (Szegedy et al. 2015) has no low-pass filter: images stored at 8/7 of the network's size shrink too little
to need one. CutMix (Yun et al. 2019, arXiv 1905.04899) mixes labels by area; adversarial training gains from it if
weights are averaged too (Rebuffi et al. 2021). Images and labels are mixed before the attack, which ascends the loss of
the mixed label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.data.dataset import Augment

#: Range of width over height of a random crop.
ASPECT = (3 / 4, 4 / 3)
#: Attempts at a crop that fits before the complete image is taken.
MAX_TRIES = 10


class AugmentDraw(NamedTuple):
    """Random numbers of the augmentation of B images."""

    flip: Tensor  # (B,) bool
    shift: Tensor  # (B, 2) int64, first row and column of the crop in the padded image, in [0, 2 * pad]
    pad: int
    angle: Tensor | None = None  # (B,) degrees counter-clockwise
    box: Tensor | None = None  # (B, 4) crop box that replaces the shift, see `random_boxes`

    def for_rank(self, rank: int, world: int) -> AugmentDraw:
        """The draws of one rank's images, `[rank::world]`."""
        rows = slice(rank, None, world)
        angle, box = (None if values is None else values[rows] for values in (self.angle, self.box))
        return AugmentDraw(self.flip[rows], self.shift[rows], self.pad, angle, box)


def draw_augment(batch_size: int, augment: Augment, generator: torch.Generator) -> AugmentDraw:
    """Draw for a global batch, on the generator's device.

    Flip and shift are always drawn, so that disabling one does not change the other.
    """
    device = generator.device
    flip = torch.randint(2, (batch_size,), generator=generator, device=device).bool()
    shift = torch.randint(2 * augment.pad + 1, (batch_size, 2), generator=generator, device=device)
    angle = random_angles(batch_size, augment.rotate, generator) if augment.rotate else None
    box = random_boxes(batch_size, augment.crop, generator) if augment.crop else None
    return AugmentDraw(flip if augment.flip else torch.zeros_like(flip), shift, augment.pad, angle, box)


def apply_augment(x: Tensor, draw: AugmentDraw, side: int = 0) -> Tensor:
    """Crop or shift, then flip, then rotate each image of `x`, (B, H, W, C) uint8.

    Returns images of the same shape and type, or after a crop (B, side, side, C).
    """
    if draw.box is not None:
        x = resized_crop(x, draw.box, draw.flip, side) if len(x) else x.new_empty(0, side, side, x.shape[3])
    elif len(x):
        x = shift_and_flip(x, draw.shift, draw.flip, draw.pad)
    return rotate(x, draw.angle) if draw.angle is not None and len(x) else x


def shift_and_flip(x: Tensor, shift: Tensor, flip: Tensor, pad: int) -> Tensor:
    """Shift, then flip each image of `x`, (B, H, W, C) uint8; zeros fill in. Returns the same shape and type.

    Args:
        x: the images.
        shift: (B, 2) int64, first row and column of the crop in the image padded by `pad`, in [0, 2 * pad].
        flip: (B,) bool.
        pad: width of the zero padding in pixels.
    """
    _, height, width, channels = x.shape
    # One gather of complete pixels: a slice per image would launch B kernels, and floats would move 4 times the bytes.
    padded = F.pad(x, (0, 0, pad, pad, pad, pad)).reshape(-1, channels)
    column = torch.arange(width, device=x.device)
    column = torch.where(flip[:, None], width - 1 - column, column) + shift[:, 1:]
    row = torch.arange(height, device=x.device) + shift[:, :1]
    image = torch.arange(len(x), device=x.device)[:, None, None] * (height + 2 * pad)
    pixel = (image + row[:, :, None]) * (width + 2 * pad) + column[:, None, :]
    return padded.index_select(0, pixel.reshape(-1)).reshape(x.shape)


def random_angles(batch_size: int, max_degrees: float, generator: torch.Generator) -> Tensor:
    """Angles (B,) in degrees, uniform in [-max_degrees, max_degrees]."""
    return (torch.rand(batch_size, generator=generator, device=generator.device) * 2 - 1) * max_degrees


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image of `x`, (B, H, W, C) uint8, by `degrees` (B,) counter-clockwise; zeros fill in."""
    batch, height, width, channels = x.shape
    cos, sin = (part[:, None, None] for part in ((degrees * (math.pi / 180)).cos(), (degrees * (math.pi / 180)).sin()))
    down = (torch.arange(height, device=x.device) - (height - 1) / 2)[:, None]
    right = torch.arange(width, device=x.device) - (width - 1) / 2
    # Source of the pixel at (down, right) from the centre.
    row = (right * sin + down * cos + (height - 1) / 2).round().long()
    column = (right * cos - down * sin + (width - 1) / 2).round().long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    image = torch.arange(batch, device=x.device)[:, None, None] * height
    pixel = torch.where(inside, (image + row) * width + column, 0)
    rotated = x.reshape(-1, channels).index_select(0, pixel.reshape(-1)).reshape(x.shape)
    return rotated * inside[..., None]


def random_boxes(batch_size: int, area: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Crop boxes (B, 4) float32: top, left, height, width, as shares of the side of a square image.

    The area is uniform in `area`, the logarithm of the aspect ratio uniform in `ASPECT`. Boxes that do not fit are
    redrawn.
    """
    draws = torch.rand(batch_size, MAX_TRIES, 2, generator=generator, device=generator.device)
    position = torch.rand(batch_size, 2, generator=generator, device=generator.device)
    share = area[0] + (area[1] - area[0]) * draws[..., 0]
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    aspect = (low + (high - low) * draws[..., 1]).exp()
    sides = torch.stack([(share / aspect).sqrt(), (share * aspect).sqrt()], dim=-1)  # (B, MAX_TRIES, 2) height, width
    fits = (sides <= 1).all(-1)
    first = fits.int().argmax(1)
    size = torch.where(fits.any(1)[:, None], sides[torch.arange(batch_size, device=sides.device), first], 1.0)
    return torch.cat([position * (1 - size), size], dim=1)


def resized_crop(x: Tensor, box: Tensor, flip: Tensor, side: int) -> Tensor:
    """Crop `box` (see `random_boxes`) from `x`, (B, S, S, C) uint8, resize it to (B, side, side, C), then flip it.

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


@dataclass(frozen=True)
class CutMix:
    """CutMix with one box per batch: its area is 1 - r of the image, r from Beta(alpha, alpha), as in the paper.

    Each image takes its box from the next image of the same rank's batch, which is in random order.

    Attributes:
        alpha: above 0; 1 = all areas are equally likely.
        num_classes: K.
    """

    alpha: float
    num_classes: int

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix images x (n, C, H, W) and labels y (n,) to images like x and class probabilities (n, K) float32.

        `generator` is on the CPU; with the same seed on every rank, all ranks cut the same box.
        """
        top, left, height, width = self._draw_box(x.shape[2], x.shape[3], generator)
        other = x.roll(1, 0)
        x = x.clone(memory_format=torch.preserve_format)
        x[:, :, top : top + height, left : left + width] = other[:, :, top : top + height, left : left + width]
        share = height * width / (x.shape[2] * x.shape[3])
        one_hot = F.one_hot(y, self.num_classes).to(torch.float32)
        return x, one_hot * (1 - share) + one_hot.roll(1, 0) * share

    def _draw_box(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
        """Top, left, height and width of a box around a uniform centre, clipped at the border."""
        side = math.sqrt(1 - self._draw_ratio(generator))
        row, column = (int(torch.randint(size, (), generator=generator)) for size in (height, width))
        (top, bottom), (left, right) = (
            _clipped_span(row, int(height * side), height),
            _clipped_span(column, int(width * side), width),
        )
        return top, left, bottom - top, right - left

    def _draw_ratio(self, generator: torch.Generator) -> float:
        """r from Beta(alpha, alpha)."""
        # torch's Beta takes no generator.
        seed = int(torch.randint(2**62, (), generator=generator))
        return float(np.random.default_rng(seed).beta(self.alpha, self.alpha))


def _clipped_span(centre: int, length: int, size: int) -> tuple[int, int]:
    first = centre - length // 2
    return max(0, first), min(size, first + length)
