"""Batches of one rank: their indices (a function of seed, epoch and step), and the augmented float images.

Batches are the same for either source and any number of ranks.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distcond.data.dataset import Augment
from distcond.data.sources import MixedSource, Source, strip_center_crop
from distcond.data.transforms import CutMix, apply_augment, draw_augment
from distcond.seeding import generator


class ExtraShare(NamedTuple):
    """Number of extra images and their share of every batch, in (0, 1)."""

    size: int
    share: float


def batch_indices(
    n: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    rank: int,
    world: int,
    start: int = 0,
    shuffle: bool,
    drop_last: bool,
    extra: ExtraShare | None = None,
) -> list[np.ndarray]:
    """This rank's indices, int64, one array per step of an epoch from step `start` on.

    `batch_size` is global. A rank takes `batch[rank::world]`. Nothing is padded or repeated: every image appears once
    for any `world`, and a rank's last array may be empty. `drop_last` drops an incomplete global batch.

    With `extra`, an epoch has as many steps as without. Every batch is full and takes its share from the extra images,
    whose indices start at `n`; which images of both sets appear varies from epoch to epoch.
    """
    assert 0 <= rank < world, (rank, world)
    steps = num_steps(n, batch_size, drop_last)
    if extra is not None:
        batches = _mixed_batches(n, extra, batch_size, steps, seed, epoch)[start:]
    else:
        order = torch.randperm(n, generator=generator(seed, "order", epoch)) if shuffle else torch.arange(n)
        batches = order.split(batch_size)[start:steps]
    return [np.ascontiguousarray(batch[rank::world].numpy()) for batch in batches]


def _mixed_batches(n: int, extra: ExtraShare, batch_size: int, steps: int, seed: int, epoch: int) -> list[Tensor]:
    """Global batches with a fixed number of extra images each, at random rows: lam depends on the row."""
    num_extra = round(batch_size * extra.share)
    own = _random_indices(n, steps * (batch_size - num_extra), seed, "order", epoch).view(steps, -1)
    others = n + _random_indices(extra.size, steps * num_extra, seed, "extra", epoch).view(steps, -1)
    rng = generator(seed, "places", epoch)
    rows = torch.cat([own, others], dim=1)
    return [row[torch.randperm(batch_size, generator=rng)] for row in rows]


def _random_indices(n: int, count: int, *key: object) -> Tensor:
    """`count` indices below `n` in random order; none repeats before all have appeared."""
    rng = generator(*key)
    return torch.cat([torch.randperm(n, generator=rng) for _ in range(-(-count // n) or 1)])[:count]


def num_steps(n: int, batch_size: int, drop_last: bool) -> int:
    """Global batches in one pass over `n` images."""
    return n // batch_size if drop_last else -(-n // batch_size)


class Batch(NamedTuple):
    """One rank's rows of a step; the last batch of an epoch may have 0 rows."""

    step: int
    x: Tensor  # (n, 3, H, W) float32 in [0, 1], channels_last
    y: Tensor  # (n,) int64, or (n, K) class probabilities


@dataclass
class Loader:
    """Epochs over a source.

    Attributes:
        batch_size: global, over all ranks.
        device: the source's device, where batches are. Augmentation is drawn there, so one seed gives different shifts
            on a GPU and on a CPU.
        augment: None for evaluation.
        drop_last: drop an incomplete global batch.
        cutmix: mixes the images and labels of each rank; labels are then (n, K) class probabilities.
        extra: extra images, which take `extra_share` of every batch, and fill the last one; needs `shuffle`.
    """

    source: Source
    batch_size: int
    seed: int = 0
    rank: int = 0
    world: int = 1
    device: torch.device | str = "cpu"
    augment: Augment | None = None
    shuffle: bool = False
    drop_last: bool = False
    cutmix: CutMix | None = None
    extra: Source | None = None
    extra_share: float = 0.0

    @property
    def steps(self) -> int:
        """Batches per epoch, the same on every rank."""
        return num_steps(len(self.source), self.batch_size, self.drop_last)

    @property
    def images(self) -> int:
        """Images in an epoch's batches, over all ranks."""
        return sum(map(self.global_size, range(self.steps)))

    def global_size(self, step: int) -> int:
        """Images in the batch of a step, over all ranks: fewer than `batch_size` in an incomplete last one."""
        if self.extra is not None:
            return self.batch_size  # filled up with images of another round
        return min(self.batch_size, len(self.source) - step * self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """This rank's batches of an epoch from step `start` on, identical to the tail of the complete epoch.

        Closing the generator early, as leaving a `for` loop does, ends the reader.
        """
        parts = batch_indices(
            len(self.source), self.batch_size, seed=self.seed, epoch=epoch, rank=self.rank, world=self.world,
            start=start, shuffle=self.shuffle, drop_last=self.drop_last,
            extra=ExtraShare(len(self.extra), self.extra_share) if self.extra is not None else None,
        )  # fmt: skip
        # Random crops are taken from the stored image, everything else from its centre.
        source = strip_center_crop(self.source) if self.augment is not None and self.augment.crop else self.source
        if self.extra is not None:
            source = MixedSource(source, self.extra)
        with closing(source.read(parts)) as batches:
            for step, (raw, y) in enumerate(batches, start):
                x = to_float(self._augmented(raw, epoch, step))
                if self.cutmix is not None:
                    x, y = self.cutmix(x, y, generator(self.seed, "cutmix", epoch, step))
                yield Batch(step, x, y)

    def _augmented(self, x: Tensor, epoch: int, step: int) -> Tensor:
        if self.augment is None:
            return x
        draw = draw_augment(
            self.global_size(step), self.augment, generator(self.seed, "augment", epoch, step, device=self.device)
        )
        return apply_augment(x, draw.for_rank(self.rank, self.world), self.source.image_size)


def to_float(x: Tensor) -> Tensor:
    """(n, H, W, 3) uint8 to (n, 3, H, W) float32 in [0, 1], channels_last."""
    # NHWC memory viewed as NCHW is channels_last already, and the cast keeps that layout.
    return x.permute(0, 3, 1, 2).to(torch.float32).div_(255)
