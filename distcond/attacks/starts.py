"""The one law of random starts: a start is a function of the run's seed, the example and the restart.

Never of the block an example is counted in, of the examples beside it, of the attack, the operating point, the number
of processes or the device: a sweep, a validation and an evaluation of one run begin at the same points.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from distcond.seeding import key

#: One integer per example, (N,) int64 on the CPU: what its attack draws from. Restart r draws from the seed + r.
Seeds = Tensor


def example_seeds(seed: int, examples: Iterable[int]) -> Seeds:
    """The seeds of examples of a split, by their index there."""
    return torch.tensor([key(seed, "start", int(example)) for example in examples], dtype=torch.int64)


def uniform(seeds: Seeds, like: Tensor) -> Tensor:
    """Numbers in [-1, 1] for each example, shape, type and device of `like` (N, C, H, W)."""
    # On the CPU, so that an example has the same start on every device.
    rows = [torch.rand(like.shape[1:], generator=_generator(seed)) for seed in seeds.tolist()]
    return (_stacked(rows, like) * 2 - 1).to(like)


def normal(seeds: Seeds, like: Tensor) -> Tensor:
    """Standard normal numbers for each example, shape, type and device of `like` (N, C, H, W)."""
    return _stacked([torch.randn(like.shape[1:], generator=_generator(seed)) for seed in seeds.tolist()], like).to(like)


def joint_seed(seeds: Seeds) -> int:
    """One seed for all examples together: of a search that draws once for whatever it is shown."""
    return key(*seeds.tolist())


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _stacked(rows: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(rows) if rows else torch.empty(like.shape)
