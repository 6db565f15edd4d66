"""Every row independently one of several values of lam."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distcond.config.schema import Options
from distcond.config.setting import setting
from distcond.samplers.sampler import Sampler


@dataclass(frozen=True, kw_only=True)
class UniformDiscreteOptions(Options):
    """Values of lam."""

    choices: tuple[float, ...] = setting((0.0, 0.1, 0.2, 0.3, 0.4, 1.0), "the values of lam", ge=0, le=1)


def draw(options: UniformDiscreteOptions, n: int, generator: torch.Generator) -> Tensor:
    """Each row uniform over the choices: how many rows are at 0 varies from batch to batch."""
    return torch.tensor(options.choices)[torch.randint(len(options.choices), (n,), generator=generator)]


SAMPLER = Sampler(
    "uniform_discrete", "each row one of the choices", draw, UniformDiscreteOptions(name="uniform_discrete")
)
