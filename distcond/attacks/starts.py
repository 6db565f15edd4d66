"""Random starts of evaluation attacks: a function of the run's seed, the example and the restart.

They do not depend on the block or the other examples in it, the attack, the operating point, the number of processes or
the device: the sweep, the validation and the evaluations of a run start at the same points.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from distcond.seeding import key

#: One seed per example, (N,) int64 on the CPU. Restart r uses the seed + r.
Seeds = Tensor


def example_seeds(seed: int, examples: Iterable[int]) -> Seeds:
    """The seeds of examples, given by their index in a split."""
    return torch.tensor([key(seed, "start", int(example)) for example in examples], dtype=torch.int64)


def uniform(seeds: Seeds, like: Tensor) -> Tensor:
    """Uniform numbers in [-1, 1] for each example; shape, dtype and device of `like` (N, C, H, W)."""
    # Drawn on the CPU: an example has the same start on every device.
    rows = [torch.rand(like.shape[1:], generator=_generator(seed)) for seed in seeds.tolist()]
    return (_stacked(rows, like) * 2 - 1).to(like)


def normal(seeds: Seeds, like: Tensor) -> Tensor:
    """Standard normal numbers for each example; shape, dtype and device of `like` (N, C, H, W)."""
    return _stacked([torch.randn(like.shape[1:], generator=_generator(seed)) for seed in seeds.tolist()], like).to(like)


def joint_seed(seeds: Seeds) -> int:
    """One seed for all examples together, for attacks that draw once per batch."""
    return key(*seeds.tolist())


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _stacked(rows: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(rows) if rows else torch.empty(like.shape)
