"""Batches of one rank: which images (a function of seed, epoch and step alone), and those ready for the network.

The same batches for either source and any number of ranks.
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
from distcond.data.sources import MixedSource, Source, uncropped
from distcond.data.transforms import CutMix, apply_augment, draw_augment
from distcond.seeding import generator


class ExtraShare(NamedTuple):
    """Images beyond a data set's own: how many there are, and their share of every batch, in (0, 1)."""

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
    """This rank's indices for every step of an epoch from step `start` on, int64, one array per step.

    `batch_size` is global. The ranks' shares interleave to the global batch: `batch[rank::world]`. Nothing is padded
    or repeated, so every image appears exactly once for any `world`, and a rank's last share may be empty.
    `drop_last` leaves out a global batch that is not full.

    With `extra`, an epoch is as long as without: every batch is full and takes its share from the extra images, whose
    indices follow those of the `n`; of both sets, different images come in different epochs.
    """
    assert 0 <= rank < world, (rank, world)
    steps = num_steps(n, batch_size, drop_last)
    if extra is not None:
        batches = _mixed(n, extra, batch_size, steps, seed, epoch)[start:]
    else:
        order = torch.randperm(n, generator=generator(seed, "order", epoch)) if shuffle else torch.arange(n)
        batches = order.split(batch_size)[start:steps]
    return [np.ascontiguousarray(batch[rank::world].numpy()) for batch in batches]


def _mixed(n: int, extra: ExtraShare, batch_size: int, steps: int, seed: int, epoch: int) -> list[Tensor]:
    """Global batches with a fixed number of extra images each, at random places: lam goes by place."""
    from_extra = round(batch_size * extra.share)
    own = _random_indices(n, steps * (batch_size - from_extra), seed, "order", epoch).view(steps, -1)
    others = n + _random_indices(extra.size, steps * from_extra, seed, "extra", epoch).view(steps, -1)
    source = generator(seed, "places", epoch)
    rows = torch.cat([own, others], dim=1)
    return [row[torch.randperm(batch_size, generator=source)] for row in rows]


def _random_indices(n: int, count: int, *key: object) -> Tensor:
    """`count` of `n` indices in random order, each once before any comes again."""
    source = generator(*key)
    return torch.cat([torch.randperm(n, generator=source) for _ in range(-(-count // n) or 1)])[:count]


def num_steps(n: int, batch_size: int, drop_last: bool) -> int:
    """Global batches in one pass over `n` images."""
    return n // batch_size if drop_last else -(-n // batch_size)


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
        parts = batch_indices(
            len(self.source), self.batch_size, seed=self.seed, epoch=epoch, rank=self.rank, world=self.world,
            start=start, shuffle=self.shuffle, drop_last=self.drop_last,
            extra=ExtraShare(len(self.extra), self.extra_share) if self.extra is not None else None,
        )  # fmt: skip
        # A random crop is of the whole image, everything else of its centre.
        source = uncropped(self.source) if self.augment is not None and self.augment.crop else self.source
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
        global_size = min(self.batch_size, len(self.source) - step * self.batch_size)
        draws = draw_augment(
            global_size, self.augment, generator(self.seed, "augment", epoch, step, device=self.device)
        )
        return apply_augment(x, draws.share(self.rank, self.world), self.source.image_size)


def to_float(x: Tensor) -> Tensor:
    # NHWC in memory seen as NCHW is channels_last already; the cast keeps that layout.
    return x.permute(0, 3, 1, 2).to(torch.float32).div_(255)
