"""lam from a Beta distribution, with a fixed share of rows at lam = 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distcond.config.schema import Options
from distcond.config.setting import setting
from distcond.samplers.sampler import Sampler
from distcond.samplers.share import num_rows


@dataclass(frozen=True, kw_only=True)
class BetaOptions(Options):
    """The two shape parameters; below 1 they favour the ends 0 (a) and 1 (b)."""

    a: float = setting(0.5, "first shape parameter; small = many near 0", gt=0)
    b: float = setting(0.5, "second shape parameter; small = many near 1", gt=0)
    share: float = setting(
        0.2, "share of the batch at exactly lam = 0, all that the clean statistics see; rounded up", ge=0, le=1
    )


def draw(options: BetaOptions, n: int, generator: torch.Generator) -> Tensor:
    """The first rows at 0, the others Beta(a, b), mean a / (a + b)."""
    num_zero = num_rows(options.share, n)
    # torch's own Beta takes no generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    drawn = np.random.default_rng(seed).beta(options.a, options.b, n - num_zero)
    return torch.cat([torch.zeros(num_zero), torch.from_numpy(drawn).float().clamp(0, 1)])


SAMPLER = Sampler("beta", "Beta(a, b), a share at lam = 0", draw, BetaOptions(name="beta"))
