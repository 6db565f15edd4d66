"""Counts on a growing part of the validation split, each example's outcome kept like those of any evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from distcond.config.schema import Config
from distcond.engine.campaign import outcomes
from distcond.engine.campaign.count_block import Count
from distcond.engine.campaign.plan import Measure, Plan
from distcond.engine.grid import lam_grid, place_at, positions
from distcond.errors import ConfigError
from distcond.layers.encode import Codebook
from distcond.results.series import Score


class ValCounts:
    """`counts(name, position, blocks)`: how many of the first so many blocks are right, "sa" clean or "ra" attacked.

    Args:
        plan: an evaluation of the validation split at one width under one attack and one noise mode; its points
            are not used.
        count: what counts blocks that were not counted before, in this process or elsewhere.
        told: called with a line after each of them.
    """

    def __init__(self, plan: Plan, count: Count, told: Callable[[str], None]) -> None:
        assert plan.campaign.split == "val" and len(plan.attacks) == len(plan.campaign.noise) == len(plan.widths) == 1
        # Only answers are looked for: the sentinel belongs to numbers that are published.
        self.plan = replace(plan, config=replace(plan.config, eval=replace(plan.config.eval, sentinel="off")))
        self.count, self.told, self.attacked = count, told, 0

    def __call__(self, name: str, position: float, blocks: int) -> Score:
        """The counts; blocks that were counted before, by whatever command, are only read."""
        plan, measure = self._asked(name, position)
        wanted = range(min(blocks, plan.blocks))
        missing = [block for block in wanted if not plan.file(measure, block).exists()]
        if missing:
            self.count(plan, missing, lambda block: self._done(plan, measure, block))
        right = [outcomes.read(plan.file(measure, block), plan.members(block)).correct for block in wanted]
        return Score(int(sum(part.sum() for part in right)), sum(len(part) for part in right), 1)

    def _asked(self, name: str, position: float) -> tuple[Plan, Measure]:
        """What is to be counted, and the plan in which it is the last thing."""
        point = place_at(self.plan.config, position, self.plan.even)
        plan, noise, (width,) = replace(self.plan, points=(point,)), self.plan.campaign.noise[0], self.plan.widths
        if name == "sa":
            return replace(plan, campaign=replace(plan.campaign, attack=("none",))), plan.clean(point, width, noise)
        return plan, plan.attacked(plan.attacks[0], width, noise)[0]

    def _done(self, plan: Plan, measure: Measure, block: int) -> None:
        kind = f"RA, {measure.attack.name}" if measure.attack else "SA"
        first, size = block * plan.block_size, len(plan.members(block))
        self.attacked += size if measure.attack else 0
        self.told(f"{measure.point}: {kind}, examples {first} to {first + size - 1} of {plan.examples}")


def standing_places(config: Config, encode: object, resolution: float) -> list[float]:
    """Every lam, or position of the dial, at which the network can stand, sorted; `resolution` apart if anywhere.

    Raises:
        ConfigError: `eval.lam_grid` or the sampler do not fit the method.
    """
    own = positions(config)
    steps = round(1 / resolution)
    wanted = {step / steps for step in range(steps + 1)}
    codes = set(encode.known if isinstance(encode, Codebook) else ())
    if config.eval.dial != "switch":
        return sorted(wanted | set(own))
    found = set(own)
    for lam in (wanted | codes) - found:
        try:
            found |= set(lam_grid(replace(config, eval=replace(config.eval, lam_grid=(lam,)))))
        except ConfigError:
            continue  # the method has no such place
    return sorted(found)
