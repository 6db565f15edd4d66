"""One lam for every row: a dedicated network, or one operating point of a conditional one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distcond.config.schema import Options
from distcond.config.setting import setting
from distcond.samplers.sampler import Sampler


@dataclass(frozen=True, kw_only=True)
class FixedOptions(Options):
    """One operating point."""

    lam: float = setting(1.0, "the one lam", ge=0, le=1)


def draw(options: FixedOptions, n: int, generator: torch.Generator) -> Tensor:
    """`lam` in every row."""
    return torch.full((n,), options.lam)


SAMPLER = Sampler("fixed", "one lam for every row", draw, FixedOptions(name="fixed"))
