"""The `Sampler` value that files of this package export: a named distribution of lam over the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distcond.config.schema import Options


@dataclass(frozen=True)
class Sampler:
    """A named distribution of lam.

    `draw(options, n, generator)` returns lam for a global batch of n rows, (n,) float32 on the CPU. The order does not
    matter: rows are shuffled, and the step sorts lam in ascending order.
    """

    name: str
    summary: str
    draw: Callable[[Any, int, torch.Generator], Tensor]
    options: Options


def num_rows(share: float, n: int) -> int:
    """`share` in [0, 1] of n rows, rounded up."""
    # Rounded first: 0.07 * 100 is 7.000000000000001 in binary, which would give 8 rows.
    return math.ceil(round(share * n, 6))
