"""Find the lam at which an accuracy reaches a target, with few looks, and how sure that is.

RA should rise with lam and SA fall. The points of a coarse grid show how they really go; between the best point that
reaches the target and its neighbour that does not, the interval is narrowed. A look takes one block of examples, and
more only while these leave open on which side of the target the accuracy lies.

All looks see the same examples. Where the curve is monotone, the point that is found can miss the target only if the
point at which the true accuracy equals it looks good enough too: one event, so the confidence needs no correction for
the number of looks. What is decided early, on a part of the examples, is counted in full before it is the answer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import NamedTuple

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.evaluation import outcomes
from distcond.evaluation.blocks import CountBlocks
from distcond.evaluation.plan import EvalCell, EvalPlan
from distcond.layers.encode import Codebook
from distcond.results.interval import confidence
from distcond.results.series import Score
from distcond.runs.grid import lam_grid, point_at, positions

#: A part of the examples has to be this sure to decide on which side of the target a point lies.
EARLY = 0.995
#: What exceeds the needed accuracy by no more than this is near enough to it.
SLACK = 0.004

#: ("sa" or "ra", lam, blocks) to the counts over the first so many blocks of examples.
Look = Callable[[str, float, int], Score]


class Target(NamedTuple):
    """`name` ("sa" or "ra") is to be at least `level`, and that with at least this confidence, both in (0, 1)."""

    name: str
    level: float
    confidence: float = 0.9

    @property
    def other(self) -> str:
        """The accuracy that is to be as high as the target leaves it."""
        return "ra" if self.name == "sa" else "sa"

    def sure(self, score: Score) -> float:
        """How surely the accuracy behind the counts reaches the level."""
        return confidence(score.num_correct, score.num_examples, self.level)

    def needed(self, examples: int) -> float:
        """The accuracy that so many examples have to show."""
        spread = math.sqrt(self.level * (1 - self.level) / examples)
        return self.level + NormalDist().inv_cdf(self.confidence) * spread


class CalibrationResult(NamedTuple):
    """The answer, counted on all examples. `reached` is False where it is only the best that was seen."""

    lam: float
    sa: Score
    ra: Score
    sure: float
    reached: bool


@dataclass
class Search:
    """One search.

    Attributes:
        look: counts examples.
        blocks: how many blocks there are, and `examples` in them.
        lams: where the network can stand.
        coarse: those of them that are looked at first.
        held: the looks so far: (name, lam) to the number of blocks and the counts.
    """

    look: Look
    blocks: int
    examples: int
    lams: Sequence[float]
    coarse: Sequence[float]
    target: Target
    held: dict[tuple[str, float], tuple[int, Score]] = field(default_factory=dict)

    def run(self) -> CalibrationResult:
        """Look until the answer is known."""
        # Along this order the accuracy of the target falls and the other rises.
        order = sorted(self.lams, reverse=self.target.name == "ra")
        known = sorted({order.index(lam) for lam in self.coarse})
        good = [at for at in known if self._reaches(order[at])]
        if not good:
            good = [at for at in [self._highest(order, known)] if self._holds(order[at])]
        while good:
            best = max(good, key=lambda at: (self.seen(self.target.other, order[at]).accuracy, at))
            beyond = min((at for at in known if at > best), default=best)
            if beyond not in good:
                best = self._narrow(order, best, beyond)
            if self._holds(order[best]):
                return self._found(order[best], reached=True)
            known = sorted({*known, best})
            good = [at for at in good if at < best and self._holds(order[at])]
        return self._found(order[self._highest(order, known)], reached=False)

    def seen(self, name: str, lam: float, blocks: int = 1) -> Score:
        """The counts over at least so many blocks."""
        held = self.held.get((name, lam))
        if held is None or held[0] < blocks:
            held = self.held[name, lam] = blocks, self.look(name, lam, blocks)
        return held[1]

    def _reaches(self, lam: float) -> bool:
        """Whether the target is reached, by as many blocks as it takes to tell."""
        blocks = 1
        while blocks < self.blocks:
            sure = self.target.sure(self.seen(self.target.name, lam, blocks))
            if not 1 - EARLY < sure < max(EARLY, self.target.confidence):
                return sure > 0.5
            blocks *= 2
        return self._holds(lam)

    def _holds(self, lam: float) -> bool:
        """Whether the target is reached by all examples."""
        return self.target.sure(self.seen(self.target.name, lam, self.blocks)) >= self.target.confidence

    def _narrow(self, order: Sequence[float], good: int, bad: int) -> int:
        """The last place between a good and a bad one that is good, or one that is nearly as far."""
        for halve in itertools.cycle((False, True)):
            excess = self._excess(order[good])
            if bad - good <= 1 or excess <= SLACK:
                return good
            # Where a straight line would meet what is needed; every other time the middle, for curves that jump.
            fall = excess - self._excess(order[bad])
            share = 0.5 if halve or fall <= 0 else excess / fall
            at = min(max(good + round(share * (bad - good)), good + 1), bad - 1)
            good, bad = (at, bad) if self._reaches(order[at]) else (good, at)
        raise AssertionError

    def _excess(self, lam: float) -> float:
        """By how much the accuracy is above what all examples have to show."""
        return self.seen(self.target.name, lam).accuracy - self.target.needed(self.examples)

    def _highest(self, order: Sequence[float], places: Sequence[int]) -> int:
        return max(places, key=lambda at: self.seen(self.target.name, order[at]).accuracy)

    def _found(self, lam: float, reached: bool) -> CalibrationResult:
        sa, ra = (self.seen(name, lam, self.blocks) for name in ("sa", "ra"))
        return CalibrationResult(lam, sa, ra, self.target.sure(sa if self.target.name == "sa" else ra), reached)


def monotonicity_violation(name: str, held: dict[tuple[str, float], tuple[int, Score]]) -> tuple[float, float] | None:
    """Two lam, the smaller first, between which RA falls or SA rises by more than their 95 % intervals; None if none.

    The pair with the largest such step.
    """
    seen = sorted((lam, score) for (kind, lam), (_, score) in held.items() if kind == name)
    steps = []
    for (first, a), (second, b) in itertools.combinations(seen, 2):
        high, low = (a, b) if name == "ra" else (b, a)
        if high.interval.low > low.interval.high:
            steps.append((high.accuracy - low.accuracy, (first, second)))
    return max(steps)[1] if steps else None


class ValCounts:
    """`counts(name, position, blocks)`: how many of the first so many blocks are right, "sa" clean or "ra" attacked.

    Args:
        plan: an evaluation of the validation split at one width under one attack and one noise mode; its points
            are not used.
        count: what counts blocks that were not counted before, in this process or elsewhere.
        told: called with a line after each of them.
    """

    def __init__(self, plan: EvalPlan, count: CountBlocks, told: Callable[[str], None]) -> None:
        (self.width,) = {point.width for point in plan.points}
        assert plan.spec.split == "val" and len(plan.attacks) == len(plan.spec.noise) == 1
        # Only answers are looked for: the sentinel belongs to numbers that are published.
        self.plan = replace(plan, config=replace(plan.config, eval=replace(plan.config.eval, sentinel="off")))
        self.count, self.told, self.attacked = count, told, 0

    def __call__(self, name: str, position: float, blocks: int) -> Score:
        """The counts; blocks that were counted before, by whatever command, are only read."""
        plan, cell = self._asked(name, position)
        wanted = range(min(blocks, plan.blocks))
        missing = [block for block in wanted if not plan.file(cell, block).exists()]
        if missing:
            self.count(plan, missing, lambda block: self._done(plan, cell, block))
        right = [outcomes.read(plan.file(cell, block), plan.members(block)).correct for block in wanted]
        return Score(int(sum(part.sum() for part in right)), sum(len(part) for part in right), 1)

    def _asked(self, name: str, position: float) -> tuple[EvalPlan, EvalCell]:
        """What is to be counted, and the plan in which it is the last thing."""
        point = self.plan.point(point_at(self.plan.config, position, self.plan.even), self.width)
        plan, noise = replace(self.plan, points=(point,)), self.plan.spec.noise[0]
        if name == "sa":
            return replace(plan, spec=replace(plan.spec, attack=("none",))), plan.clean(point, noise)
        return plan, plan.attacked(plan.attacks[0], noise)[0]

    def _done(self, plan: EvalPlan, cell: EvalCell, block: int) -> None:
        kind = f"RA, {cell.attack.name}" if cell.attack else "SA"
        first, size = block * plan.block_size, len(plan.members(block))
        self.attacked += size if cell.attack else 0
        self.told(f"{cell.point}: {kind}, examples {first} to {first + size - 1} of {plan.examples}")


def candidate_lams(config: Config, encode: object, resolution: float) -> list[float]:
    """Every lam, or position of the dial, at which the network can stand, sorted; `resolution` apart if anywhere.

    Raises:
        ConfigError: `eval.lam_grid` or the sampler do not fit the method.
    """
    own = positions(config)
    steps = round(1 / resolution)
    wanted = {step / steps for step in range(steps + 1)}
    codes = set(encode.lams if isinstance(encode, Codebook) else ())
    if config.eval.dial != "switch":
        return sorted(wanted | set(own))
    found = set(own)
    for lam in (wanted | codes) - found:
        try:
            found |= set(lam_grid(replace(config, eval=replace(config.eval, lam_grid=(lam,)))))
        except ConfigError:
            continue  # the method has no such place
    return sorted(found)
