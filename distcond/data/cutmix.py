"""CutMix (Yun et al. 2019, arXiv 1905.04899): a box of each image comes from another, and labels are shared by area.

Adversarial training gains from it where weights are averaged too (Rebuffi et al. 2021). Image and label are mixed
before the attack, which ascends the shared label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class CutMix:
    """One box for a whole batch, its area 1 - r of the image with r drawn from Beta(alpha, alpha), as in the paper.

    The box of every image comes from the next one of the same worker's share, which is in random order.

    Attributes:
        alpha: above 0; 1 = any area is as likely.
        num_classes: K.
    """

    alpha: float
    num_classes: int

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mixed images like x (n, C, H, W), and shares of classes (n, K) float32 for labels y (n,).

        `generator` is on the CPU: with the same seed on every rank, all of them cut the same box.
        """
        top, left, height, width = self._box(x.shape[2], x.shape[3], generator)
        other = x.roll(1, 0)
        x = x.clone(memory_format=torch.preserve_format)
        x[:, :, top : top + height, left : left + width] = other[:, :, top : top + height, left : left + width]
        share = height * width / (x.shape[2] * x.shape[3])
        one_hot = F.one_hot(y, self.num_classes).to(torch.float32)
        return x, one_hot * (1 - share) + one_hot.roll(1, 0) * share

    def _box(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
        """Top, left, height and width: about a centre drawn anywhere, cut off at the border."""
        side = math.sqrt(1 - self._kept(generator))
        row, column = (int(torch.randint(size, (), generator=generator)) for size in (height, width))
        (top, bottom), (left, right) = _span(row, int(height * side), height), _span(column, int(width * side), width)
        return top, left, bottom - top, right - left

    def _kept(self, generator: torch.Generator) -> float:
        """r from Beta(alpha, alpha)."""
        # torch's own Beta takes no generator.
        seed = int(torch.randint(2**62, (), generator=generator))
        return float(np.random.default_rng(seed).beta(self.alpha, self.alpha))


def _span(centre: int, length: int, size: int) -> tuple[int, int]:
    first = centre - length // 2
    return max(0, first), min(size, first + length)
