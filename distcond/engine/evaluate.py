"""Count what a network gets right, clean and attacked, over a grid of operating points.

The unit of work is a fixed block of examples whose random start depends on (seed, block, restart) alone. Blocks are
dealt to the ranks, counts are integers and added up: every example counts once, for any number of ranks, and the
result does not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from distcond.attacks.pgd import pgd, summed_cross_entropy
from distcond.config.schema import AttackConfig
from distcond.data.loader import to_float
from distcond.data.sources import Source
from distcond.data.splits import Subset, budget_rows, image_set_digest, split_digest
from distcond.distributed.world import World
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import Logits, network_at, surrogate_networks
from distcond.models.flops import Cost, cost_at
from distcond.operating_point import OperatingPoint, PointLike, as_point
from distcond.runs.build import full_float32
from distcond.seeding import generator


class Count(NamedTuple):
    """Correct examples at one operating point."""

    point: OperatingPoint
    width: float  # the multiplier
    sa_correct: int
    ra_correct: int  # right on the clean image and on every attacked one
    num_examples: int
    ra_loss: float  # mean cross-entropy on the attacked images
    seconds: float
    cost: Cost

    @property
    def lam(self) -> float:
        """Of the network, or of the robust end of a blend."""
        return self.point.lam


@dataclass(frozen=True)
class Blocks:
    """The examples of a sweep: what a budget of `examples` takes of a split (0 = all), in blocks."""

    source: Source
    examples: int
    batch_size: int

    def __len__(self) -> int:
        return min(self.examples or len(self.source), len(self.source))

    @cached_property
    def rows(self) -> np.ndarray:
        """The examples in the split, (n,) int64 (`distcond.data.splits`)."""
        return budget_rows(self.source, self.examples)

    @cached_property
    def images(self) -> str:
        """Digest of the set of examples, as rows hold it."""
        return image_set_digest(split_digest(self.source), self.rows)

    def some(self, count: int) -> np.ndarray:
        """So many of the examples, spread over the classes, (count,) int64."""
        return self.rows[budget_rows(Subset(self.source, self.rows), count)]

    def of(self, world: World) -> list[tuple[int, np.ndarray]]:
        """This rank's blocks: number and example indices."""
        starts = range(0, len(self), self.batch_size)
        blocks = [(n, self.rows[s : s + self.batch_size]) for n, s in enumerate(starts)]
        return blocks[world.rank :: world.size]


def sweep(
    model: ConditionalModel,
    blocks: Blocks,
    world: World,
    places: Sequence[PointLike],
    attack: AttackConfig,
    *,
    seed: int,
    noise_seed: int,
    seen: Callable[[int], None] = lambda rows: None,
) -> Iterator[Count]:
    """Counts at each operating point and width, the same on every rank. `model` is in eval mode and in float32.

    `seen` is told how many rows each block of this rank had, once it is done.

    Attack and network share one fixed draw of the weight noise: the attacker knows the
    point, the weights and the noise.
    """
    for point in map(as_point, places):
        for width, width_mult in enumerate(model.width_mults):
            began = time.perf_counter()
            network = network_at(model, point, width_mult, noise_seed)
            with full_float32():
                counts, loss = _count(network, blocks, world, attack, seed, seen)
            clean, robust, total = (int(n) for n in world.sum(counts).tolist())
            mean_loss = float(world.sum(loss)) / total
            seconds = time.perf_counter() - began
            cost = cost_at(model, point, width, blocks.source.image_size)
            yield Count(point, width_mult, clean, robust, total, mean_loss, seconds, cost)


def _count(
    network: nn.Module, blocks: Blocks, world: World, attack: AttackConfig, seed: int, seen: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    """(clean correct, robust, examples) of this rank's blocks, int64, and the summed loss under attack, float64."""
    mine = blocks.of(world)
    totals = torch.zeros(3, dtype=torch.int64, device=world.device)
    loss = torch.zeros((), dtype=torch.float64, device=world.device)
    for (number, _), (raw, y) in zip(mine, blocks.source.read([part for _, part in mine]), strict=True):
        x = to_float(raw)
        with torch.no_grad():
            clean = network(x).argmax(1) == y
        alive, block_loss = survives(network, x, y, attack, (seed, "evaluate", number))
        totals += torch.stack([clean.sum(), (clean & alive).sum(), clean.new_tensor(len(y), dtype=torch.int64)])
        loss += block_loss
        seen(len(y))
    return totals, loss


@torch.no_grad()
def survives(
    network: nn.Module, x: Tensor, y: Tensor, attack: AttackConfig, key: tuple[object, ...]
) -> tuple[Tensor, Tensor]:
    """Which examples (N,) bool stay right under every restart of the attack; the last restart's summed loss (0-d).

    Of averaged outputs the attack is run on the stand-ins of the network too; their images are judged by itself.
    """
    alive, loss = torch.ones(len(y), dtype=torch.bool, device=x.device), x.new_zeros(())
    networks: tuple[Logits, ...] = (*surrogate_networks(network), network)
    for restart in range(attack.restarts):
        source = generator(*key, restart, device=x.device)
        unit = torch.rand(x.shape, generator=source, device=x.device) * 2 - 1
        for attacked in networks:
            logits = network(pgd(partial(_asked, attacked), x, y, attack, unit))
            alive &= logits.argmax(1) == y
        loss = summed_cross_entropy(logits, y)
    return alive, loss


def _asked(network: Logits, x: Tensor, step: int) -> Tensor:
    return network(x)
