"""A sweep over the ranks of a run: while it trains on validation, at its end on test.

The unit of work is a block of examples. Blocks are dealt to the ranks, what became of every example is gathered, and
the counts are those of one process: every example counts once, for any number of ranks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from distcond.data.sources import Source
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.evaluation import outcomes
from distcond.evaluation.blocks import LOSS, Block, CellEvaluator, keep_outcome, read_blocks
from distcond.evaluation.outcomes import Outcome
from distcond.evaluation.plan import EvalCell, EvalPlan
from distcond.evaluation.rows import Count, added_up
from distcond.models.conditional import ConditionalModel
from distcond.models.flops import cost_at
from distcond.operating_point import OperatingPoint
from distcond.runs.build import evaluation_precision


def sweep(
    plan: EvalPlan,
    model: ConditionalModel,
    source: Source,
    world: World,
    *,
    seen: Callable[[int], None] = lambda rows: None,
    losses: bool = False,
    keep: bool = False,
) -> Iterator[Count]:
    """Counts at each operating point of a plan (`make_plan.sweep_plan`), the same on every rank.

    Args:
        plan: what is counted.
        model: the network, in eval mode, with weights in float32.
        source: the split.
        world: this rank among those that share the work.
        seen: called with how many rows each block of this rank had, once it is done.
        losses: attack every image for the mean loss under attack, which costs more: `Count.ra_loss`.
        keep: keep what became of every example in the run's directory, and count nothing that is kept there.
    """
    evaluator = CellEvaluator(plan, model, losses=losses)
    for point in plan.points:
        began = time.perf_counter()
        cells = _cells(plan, point)
        mine = dict[int, tuple[Outcome, Outcome]]()
        with evaluation_precision(plan.precision, model.mean.device):
            for block in read_blocks(plan, source, plan.layout.of_rank(world)):
                mine[block.number] = _block(evaluator, cells, block, keep)
                if keep and world.first:  # at once: a sweep that is killed loses one block
                    _keep_missing(plan, cells, {block.number: mine[block.number]})
                seen(len(block.y))
        found = [
            _gathered(plan, world, {number: pair[part] for number, pair in mine.items()}, source, with_losses)
            for part, with_losses in ((0, False), (1, losses))
        ]
        if keep and world.first and world.size > 1:
            _keep_missing(plan, cells, dict(enumerate(zip(*found, strict=True))))
        sa, ra = (added_up(by_block).correct for by_block in found)
        loss = sum(outcome.statistics[LOSS] for outcome in found[1]) / plan.examples if losses else None
        cost = cost_at(model, point, model.width_index(point.width), source.image_size)
        seconds = time.perf_counter() - began
        yield Count(point, int(sa.sum()), int(ra.sum()), plan.examples, loss, seconds, cost)


def _cells(plan: EvalPlan, point: OperatingPoint) -> tuple[EvalCell, EvalCell]:
    (attack,), (noise,) = plan.attacks, plan.spec.noise
    return plan.clean(point, noise), EvalCell(attack, point, noise, point)


def _block(
    evaluator: CellEvaluator, cells: tuple[EvalCell, EvalCell], block: Block, keep: bool
) -> tuple[Outcome, Outcome]:
    """What becomes of one block, clean and attacked; what is kept already is only read."""
    clean = (_kept(evaluator.plan, cells[0], block) if keep else None) or evaluator.clean(cells[0], block)
    attacked = _kept(evaluator.plan, cells[1], block) if keep else None
    if attacked is None:
        attacked = evaluator.adaptive(cells[1], block, torch.from_numpy(clean.correct).to(block.x.device))
    return clean, attacked


def _kept(plan: EvalPlan, cell: EvalCell, block: Block) -> Outcome | None:
    try:
        return outcomes.read(plan.file(cell, block.number), block.members)
    except ConfigError:
        return None  # not there, or damaged: one rank alone must not stop over it


def _keep_missing(
    plan: EvalPlan, cells: tuple[EvalCell, EvalCell], by_block: dict[int, tuple[Outcome, Outcome]]
) -> None:
    for number, pair in by_block.items():
        for cell, outcome in zip(cells, pair, strict=True):
            try:
                outcomes.read(plan.file(cell, number), outcome.examples)
            except ConfigError:
                keep_outcome(plan, cell, number, outcome)


def _gathered(plan: EvalPlan, world: World, mine: dict[int, Outcome], source: Source, losses: bool) -> list[Outcome]:
    """The outcomes of all blocks on every rank, by one collective."""
    if world.size == 1:
        return [mine[number] for number in range(plan.blocks)]
    slots, width = -(-plan.blocks // world.size), plan.block_size + 3
    sent = np.zeros((slots, width))
    for slot, number in enumerate(plan.layout.of_rank(world)):
        held = mine[number]
        sent[slot, : len(held.broken_by)] = held.broken_by
        sent[slot, -3:] = held.forward_rows, held.seconds, held.statistics.get(LOSS, 0.0)
    # Counts below 2 ** 53 are exact in float64.
    parts = [part.cpu().numpy() for part in world.gather(torch.from_numpy(sent).to(world.device))]
    slot_of = [(number % world.size, number // world.size) for number in range(plan.blocks)]
    return [_unpacked(plan, source, number, parts[rank][slot], losses) for number, (rank, slot) in enumerate(slot_of)]


def _unpacked(plan: EvalPlan, source: Source, number: int, values: np.ndarray, losses: bool) -> Outcome:
    members = plan.members(number)
    rows, seconds, loss = (float(value) for value in values[-3:])
    broken_by = values[: len(members)].astype(np.int8)
    statistics = {LOSS: loss} if losses else {}
    return Outcome(members, source.labels[members], broken_by, int(rows), seconds, statistics)
