"""One step of a slimmable network: the loss of each width, widest first, added up (Yu et al. 2019; OATS)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from distcond.errors import ConfigError
from distcond.methods.passes import Outcome, Passes
from distcond.methods.stage import Objective


def every_width(objective: Callable[[Passes, Tensor, Tensor, int], Outcome], num_widths: int) -> Objective:
    """The sum of an objective over all widths, in one backward and one optimiser step.

    Every width has its own attack, of its own random start, on the same images at the same lam. Counts add up too, so
    an accuracy in training is the mean over widths.
    """

    def summed(passes: Passes, x: Tensor, y: Tensor) -> Outcome:
        outcomes = [objective(passes, x, y, width) for width in range(num_widths)]
        losses, tallies = zip(*outcomes, strict=True)
        return Outcome(torch.stack(losses).sum(), torch.stack(tallies).sum(0))

    return summed


def checked(width_mults: tuple[float, ...]) -> tuple[float, ...]:
    """`width_mults` as they are.

    Raises:
        ConfigError: not descending from 1: then some weights would belong to no network.
    """
    descending = all(wide > narrow for wide, narrow in pairwise(width_mults))
    if not width_mults or width_mults[0] != 1 or not descending:
        given = ",".join(f"{width_mult:g}" for width_mult in width_mults)
        raise ConfigError(f"method.width_mults={given}: must start with 1 and descend, such as 1,0.75,0.5")
    return width_mults
