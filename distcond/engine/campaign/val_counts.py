"""Counts on a growing part of the validation split, each example's outcome kept like those of any evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from distcond.config.schema import Config
from distcond.data.loader import to_float
from distcond.engine.campaign import outcomes
from distcond.engine.campaign.count_block import BlockCounter, Part
from distcond.engine.campaign.plan import Measure, Plan
from distcond.engine.grid import lam_grid
from distcond.engine.precision import full_float32
from distcond.errors import ConfigError
from distcond.layers.encode import Codebook
from distcond.results.series import Score


class ValCounts:
    """`counts(name, lam, blocks)`: how many of the first so many blocks are right, "sa" clean or "ra" attacked.

    Args:
        plan: an evaluation of the validation split under one attack and one noise mode; its lam grid is not used.
        width: index of the width that is looked at.
        told: called with a line after each block that had to be counted.
    """

    def __init__(self, plan: Plan, device: torch.device, width: int, told: Callable[[str], None]) -> None:
        assert plan.campaign.split == "val" and len(plan.attacks) == len(plan.campaign.noise) == 1
        self.plan, self.width, self.told = plan, width, told
        self.counter = BlockCounter(plan, device)
        self.attacked = 0

    def __call__(self, name: str, lam: float, blocks: int) -> Score:
        """The counts; blocks that were counted before, by whatever command, are only read."""
        plan, measure = self._asked(name, lam)
        right = [self._block(plan, measure, block) for block in range(min(blocks, plan.blocks))]
        return Score(int(sum(part.sum() for part in right)), sum(len(part) for part in right), 1)

    def _asked(self, name: str, lam: float) -> tuple[Plan, Measure]:
        """What is to be counted, and the plan in which it is the last thing."""
        plan, noise = replace(self.plan, lam_grid=(lam,)), self.plan.campaign.noise[0]
        if name == "sa":
            return replace(plan, campaign=replace(plan.campaign, attack=("none",))), plan.clean(lam, self.width, noise)
        return plan, plan.attacked(plan.attacks[0], self.width, noise)[0]

    def _block(self, plan: Plan, measure: Measure, block: int) -> np.ndarray:
        file, members = plan.file(measure, block), plan.members(block)
        if not file.exists():
            self._count(plan, block)
            kind = f"RA, {plan.attacks[0].name}" if measure.attack else "SA"
            self.attacked += len(members) if measure.attack else 0
            self.told(f"lam {measure.lam:.3g}: {kind}, examples {members[0]} to {members[-1]} of {plan.examples}")
        return outcomes.read(file, members).correct

    def _count(self, plan: Plan, block: int) -> None:
        self.counter.plan = plan
        ((raw, y),) = self.counter.source.read([plan.members(block)])
        with full_float32():
            Part(self.counter, block, self.width, plan.campaign.noise[0], to_float(raw).contiguous(), y).count()


def standing_places(config: Config, encode: object, resolution: float) -> list[float]:
    """Every lam at which the network can stand, sorted; `resolution` apart where it can stand anywhere.

    Raises:
        ConfigError: `eval.lam_grid` or the sampler do not fit the method.
    """
    own = lam_grid(config)
    steps = round(1 / resolution)
    wanted = {step / steps for step in range(steps + 1)} | set(encode.known if isinstance(encode, Codebook) else ())
    found = set(own)
    for lam in wanted - found:
        try:
            found |= set(lam_grid(replace(config, eval=replace(config.eval, lam_grid=(lam,)))))
        except ConfigError:
            continue  # the method has no such place
    return sorted(found)
