"""lam uniform over a range, with a fixed share of rows at lam = 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distcond.config.schema import Options
from distcond.config.setting import setting
from distcond.errors import ConfigError
from distcond.samplers.sampler import Sampler
from distcond.samplers.share import num_rows


@dataclass(frozen=True, kw_only=True)
class UniformOptions(Options):
    """A range of lam."""

    low: float = setting(0.0, "the lowest lam", ge=0, le=1)
    high: float = setting(1.0, "the highest lam", ge=0, le=1)
    share: float = setting(
        0.2, "share of the batch at exactly lam = 0, all that the clean statistics see; rounded up", ge=0, le=1
    )


def draw(options: UniformOptions, n: int, generator: torch.Generator) -> Tensor:
    """The first rows at 0, the others uniform in (low, high].

    Raises:
        ConfigError: low above high.
    """
    if options.low > options.high:
        raise ConfigError(f"sampler.low={options.low:g}: must be at most sampler.high={options.high:g}")
    num_zero = num_rows(options.share, n)
    # 1 - rand excludes 0, which would be one more row of the clean path.
    drawn = options.low + (options.high - options.low) * (1 - torch.rand(n - num_zero, generator=generator))
    return torch.cat([torch.zeros(num_zero), drawn])


SAMPLER = Sampler("uniform", "uniform over a range, a share at lam = 0", draw, UniformOptions(name="uniform"))
