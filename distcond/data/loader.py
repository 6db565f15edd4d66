"""Batches of one rank, ready for the network: the same ones for either source and any number of ranks."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.data.augment import apply, draw
from distcond.data.central import whole
from distcond.data.cutmix import CutMix
from distcond.data.dataset import Augment
from distcond.data.mixed import Mixed
from distcond.data.order import Extra, num_steps, plan
from distcond.data.source import Source
from distcond.seeding import generator


class Batch(NamedTuple):
    """One rank's share of a step; the last share of an epoch may have 0 rows."""

    step: int
    x: Tensor  # (n, 3, H, W) float32 in [0, 1], channels_last
    y: Tensor  # (n,) int64, or (n, K) shares of classes


@dataclass
class Loader:
    """Passes over a source.

    Attributes:
        batch_size: global, over all ranks.
        device: where the batches lie; the source's device. Augmentation is drawn there, so a seed gives other
            shifts on a GPU than on a CPU.
        augment: None for evaluation.
        drop_last: leave out a global batch that is not full.
        cutmix: mixes the images and labels of each share; labels are then (n, K) shares of classes.
        extra: more images, which take `extra_share` of every batch; needs `drop_last` and `shuffle`.
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
        """Batches in an epoch: the same on every rank."""
        return num_steps(len(self.source), self.batch_size, self.drop_last)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """This rank's batches of one epoch from step `start` on, identical to the tail of the whole epoch.

        Leaving early is fine: closing the generator (which leaving a `for` loop does) ends the reader.
        """
        parts = plan(
            len(self.source), self.batch_size, seed=self.seed, epoch=epoch, rank=self.rank, world=self.world,
            start=start, shuffle=self.shuffle, drop_last=self.drop_last,
            extra=Extra(len(self.extra), self.extra_share) if self.extra is not None else None,
        )  # fmt: skip
        # A random crop is of the whole image, everything else of its centre.
        source = whole(self.source) if self.augment is not None and self.augment.crop else self.source
        if self.extra is not None:
            source = Mixed(source, self.extra)
        with closing(source.read(parts)) as batches:
            for step, (raw, y) in enumerate(batches, start):
                x = to_float(self._augmented(raw, epoch, step))
                if self.cutmix is not None:
                    x, y = self.cutmix(x, y, generator(self.seed, "cutmix", epoch, step))
                yield Batch(step, x, y)

    def _augmented(self, x: Tensor, epoch: int, step: int) -> Tensor:
        if self.augment is None:
            return x
        global_size = min(self.batch_size, len(self.source) - step * self.batch_size)
        draws = draw(global_size, self.augment, generator(self.seed, "augment", epoch, step, device=self.device))
        return apply(x, draws.share(self.rank, self.world), self.source.image_size)


def to_float(x: Tensor) -> Tensor:
    # NHWC in memory seen as NCHW is channels_last already; the cast keeps that layout.
    return x.permute(0, 3, 1, 2).to(torch.float32).div_(255)
