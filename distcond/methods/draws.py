"""Everything random about one training step, as a function of (seed, epoch, step, purpose).

Draws are made for the whole global batch and then cut to this rank's rows, so they do not depend on how many workers
share it; nothing has a state that a resumed run would have to restore.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distcond.condition import Routing
from distcond.seeding import generator


@dataclass(frozen=True)
class Part:
    """Consecutive rows of the global batch: which local rows they are, and their lam."""

    rows: slice
    lam: float | Tensor  # one value when the whole global part shares it, else (n,) for the local rows, on the CPU
    start: int  # of the global rows
    stop: int


@dataclass(frozen=True)
class Draws:
    """One step of one rank. `lam` (B,) is that of the whole global batch, ascending, on the CPU.

    A dataclass, because DDP leaves those untouched on their way into the step.
    """

    seed: int
    epoch: int
    step: int
    rank: int
    world: int
    lam: Tensor

    @property
    def num_clean(self) -> int:
        """Global rows at lam = 0, which come first."""
        return int((self.lam == 0).sum())

    def part(self, start: int, stop: int) -> Part:
        """Global rows start to stop (excluded). Whether lam is uniform is decided globally: alike on all ranks."""
        lam = self.lam[start:stop]
        rows = slice(self._local(start), self._local(stop))
        alike = len(lam) > 0 and bool((lam == lam[0]).all())
        return Part(rows, float(lam[0]) if alike else self.lam[self.rank :: self.world][rows], start, stop)

    def everything(self) -> Part:
        """The whole batch as one part."""
        return self.part(0, len(self.lam))

    def common_route(self, part: Part, routing: Routing) -> bool | None:
        """The one path that every global row of `part` takes, or None: one bool is the faster form of the same."""
        routes = self.lam[part.start : part.stop] > routing.threshold
        return None if len(routes) == 0 or bool((routes != routes[0]).any()) else bool(routes[0])

    def unit(self, part: Part, like: Tensor, purpose: str) -> Tensor:
        """Uniform numbers in [-1, 1] for this rank's rows of `part`, shape and device of `like` (n, C, H, W)."""
        source = generator(*self.key(purpose), device=like.device)
        # The same memory layout as the images: the draw itself is made in row order, for any world size.
        whole = torch.rand((len(self.lam), *like.shape[1:]), generator=source, device=like.device)
        mine = whole[self.rank :: self.world][part.rows].mul_(2).sub_(1)
        return mine.contiguous(memory_format=torch.channels_last)

    def key(self, *purpose: object) -> tuple[object, ...]:
        """The seed parts of one purpose within this step, the same on all ranks."""
        return (self.seed, *purpose, self.epoch, self.step)

    def _local(self, index: int) -> int:
        """How many of this rank's rows come before global row `index`."""
        return len(range(self.rank, index, self.world))
