"""Which images make which batch: a function of (seed, epoch, step), and of nothing else."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distcond.seeding import generator


class Extra(NamedTuple):
    """Images beyond a data set's own: how many there are, and their share of every batch, in (0, 1)."""

    size: int
    share: float


def plan(
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
    extra: Extra | None = None,
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


def _mixed(n: int, extra: Extra, batch_size: int, steps: int, seed: int, epoch: int) -> list[Tensor]:
    """Global batches with a fixed number of extra images each, at random places: lam goes by place."""
    from_extra = round(batch_size * extra.share)
    own = _drawn(n, steps * (batch_size - from_extra), seed, "order", epoch).view(steps, -1)
    others = n + _drawn(extra.size, steps * from_extra, seed, "extra", epoch).view(steps, -1)
    source = generator(seed, "places", epoch)
    rows = torch.cat([own, others], dim=1)
    return [row[torch.randperm(batch_size, generator=source)] for row in rows]


def _drawn(n: int, count: int, *key: object) -> Tensor:
    """`count` of `n` indices in random order, each once before any comes again."""
    source = generator(*key)
    return torch.cat([torch.randperm(n, generator=source) for _ in range(-(-count // n) or 1)])[:count]


def num_steps(n: int, batch_size: int, drop_last: bool) -> int:
    """Global batches in one pass over `n` images."""
    return n // batch_size if drop_last else -(-n // batch_size)
