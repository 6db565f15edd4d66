"""Which examples of a split are counted, in which blocks, and which rank counts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distcond.data.sources import Source
from distcond.data.splits import budget_rows, stratified_order
from distcond.distributed.world import World


@dataclass(frozen=True)
class Blocks:
    """Examples of a split in blocks of a fixed size. Which of them are counted where changes no outcome.

    Attributes:
        examples: how many.
        block_size: examples per block; the last may have fewer.
        rows: which of the split, in the order in which they are counted, (n,) int64; None = the first, as stored.
    """

    examples: int
    block_size: int
    rows: np.ndarray | None = None

    @classmethod
    def of(cls, source: Source, budget: int, block_size: int) -> Blocks:
        """What a budget takes of a split (0 = all)."""
        examples = min(budget or len(source), len(source))
        return cls(examples, block_size, budget_rows(source, budget) if examples < len(source) else None)

    def __len__(self) -> int:
        """How many blocks there are."""
        return -(-self.examples // self.block_size)

    def members(self, block: int) -> np.ndarray:
        """Indices of a block's examples in the split, (n,) int64."""
        part = slice(block * self.block_size, min((block + 1) * self.block_size, self.examples))
        return np.arange(part.start, part.stop) if self.rows is None else self.rows[part]

    def all(self) -> np.ndarray:
        """Indices of all examples in the split, (n,) int64."""
        return np.arange(self.examples) if self.rows is None else self.rows

    def of_rank(self, world: World) -> range:
        """Numbers of one rank's blocks."""
        return range(world.rank, len(self), world.size)

    def some(self, count: int, labels: np.ndarray) -> np.ndarray:
        """So many of the examples, of every class of the split's `labels` (N,), (count,) int64."""
        order = stratified_order(labels) if self.rows is None else self.rows
        return order[: min(count, self.examples)]
