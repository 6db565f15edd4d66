"""A fixed share of rows at lam = 0 and the others drawn among several values: OAT's way (arXiv 2010.11828)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distcond.config.schema import Options
from distcond.config.setting import setting
from distcond.samplers.sampler import Sampler
from distcond.samplers.share import num_rows


@dataclass(frozen=True, kw_only=True)
class FixedShareOptions(Options):
    """Values of lam and the share of rows at 0."""

    choices: tuple[float, ...] = setting((0.0, 0.1, 0.2, 0.3, 0.4, 1.0), "the values of lam", ge=0, le=1)
    share: float | None = setting(
        None, "share of the batch at lam = 0, rounded up; none = 1 / number of choices", ge=0, le=1
    )


def draw(options: FixedShareOptions, n: int, generator: torch.Generator) -> Tensor:
    """The first rows at 0, as many in every batch; the others independently one of the other choices.

    Without 0 among the choices no row is at 0; with nothing else among them every row is.
    """
    others = torch.tensor([choice for choice in options.choices if choice != 0])
    if 0 not in options.choices:
        num_zero = 0
    elif len(others) == 0:
        num_zero = n
    else:
        share = 1 / len(options.choices) if options.share is None else options.share
        num_zero = num_rows(share, n)
    if num_zero == n:
        return torch.zeros(n)
    drawn = others[torch.randint(len(others), (n - num_zero,), generator=generator)]
    return torch.cat([torch.zeros(num_zero), drawn])


SAMPLER = Sampler(
    "fixed_share", "a fixed share at lam = 0, the rest among choices (OAT)", draw, FixedShareOptions(name="fixed_share")
)
