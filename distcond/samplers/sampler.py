"""What a file of this room exports: a named distribution of lam over the rows of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distcond.config.schema import Options


@dataclass(frozen=True)
class Sampler:
    """A named distribution of lam.

    `draw(options, n, generator)` gives lam for a global batch of n rows, (n,) float32 on the CPU. The order does not
    matter: rows of a shuffled batch are alike, and the step sorts them so that lam = 0 comes first.
    """

    name: str
    summary: str
    draw: Callable[[Any, int, torch.Generator], Tensor]
    options: Options
