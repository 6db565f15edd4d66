"""Which images make which batch: a function of (seed, epoch, step), and of nothing else."""

from __future__ import annotations

import numpy as np
import torch

from distcond.seeding import generator


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
) -> list[np.ndarray]:
    """This rank's indices for every step of an epoch from step `start` on, int64, one array per step.

    `batch_size` is global. The ranks' shares interleave to the global batch: `batch[rank::world]`. Nothing is padded
    or repeated, so every image appears exactly once for any `world`, and a rank's last share may be empty.
    `drop_last` leaves out a global batch that is not full.
    """
    assert 0 <= rank < world, (rank, world)
    order = torch.randperm(n, generator=generator(seed, "order", epoch)) if shuffle else torch.arange(n)
    steps = num_steps(n, batch_size, drop_last)
    batches = order.split(batch_size)[start:steps]
    return [np.ascontiguousarray(batch[rank::world].numpy()) for batch in batches]


def num_steps(n: int, batch_size: int, drop_last: bool) -> int:
    """Global batches in one pass over `n` images."""
    return n // batch_size if drop_last else -(-n // batch_size)
