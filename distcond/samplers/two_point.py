"""Two values of lam in fixed shares: FLOAT's and SMART's half clean, half adversarial (arXiv 2204.00426)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distcond.config.schema import Options
from distcond.config.setting import setting
from distcond.samplers.sampler import Sampler
from distcond.samplers.share import num_rows


@dataclass(frozen=True, kw_only=True)
class TwoPointOptions(Options):
    """Two operating points."""

    low: float = setting(0.0, "the lower lam", ge=0, le=1)
    high: float = setting(1.0, "the higher lam", ge=0, le=1)
    share: float = setting(0.5, "share of the batch at the lower lam, rounded up to whole rows", ge=0, le=1)


def draw(options: TwoPointOptions, n: int, generator: torch.Generator) -> Tensor:
    """The first `ceil(share * n)` rows low, the others high: the counts never vary."""
    num_low = num_rows(options.share, n)
    return torch.cat([torch.full((num_low,), options.low), torch.full((n - num_low,), options.high)])


SAMPLER = Sampler(
    "two_point", "two values of lam in fixed shares (FLOAT, SMART)", draw, TwoPointOptions(name="two_point")
)
