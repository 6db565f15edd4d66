"""Blocks of examples are counted here, and nowhere else: clean and under every attack, in float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distcond.atomic_io import write_json
from distcond.attacks.attack import Logits
from distcond.attacks.randomness import outputs_differ
from distcond.attacks.starts import Seeds
from distcond.data.loader import to_float
from distcond.data.prepare import open_source, prepare_data
from distcond.data.sources import Source
from distcond.errors import ConfigError
from distcond.evaluation import outcomes
from distcond.evaluation.cascade import adaptive, start, transfer
from distcond.evaluation.networks import QueryCounter, attacked_model, network_of, target_model
from distcond.evaluation.outcomes import ROBUST, Outcome
from distcond.evaluation.plan import EvalCell, EvalPlan
from distcond.evaluation.probes import write_reports
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import NUM_SURROGATES
from distcond.models.weights_digest import weights_digest
from distcond.operating_point import OperatingPoint
from distcond.runs.build import full_float32
from distcond.runs.load_run import epoch_at
from distcond.runs.run_dir import RunDir

#: (cell, the attacked network, x, y) to named numbers that are kept with the outcome of an attack.
Inspect = Callable[[EvalCell, QueryCounter, Tensor, Tensor], dict[str, float]]
#: (plan, its blocks, called with each block that is done): count them. Any plan of the same network and images.
CountBlocks = Callable[[EvalPlan, Sequence[int], Callable[[int], None]], None]

#: Of an outcome whose images were all attacked: their cross-entropy there, added up.
LOSS = "loss"


class Block(NamedTuple):
    """Some examples: number of the block, indices in the split (n,), images (n, C, H, W), labels and seeds (n,)."""

    number: int
    members: np.ndarray
    x: Tensor
    y: Tensor
    seeds: Seeds


def read_blocks(plan: EvalPlan, source: Source, numbers: Sequence[int]) -> Iterator[Block]:
    """Blocks of a plan, in the order of their numbers."""
    members = [plan.members(number) for number in numbers]
    for number, rows, (raw, y) in zip(numbers, members, source.read(members), strict=True):
        yield Block(number, rows, to_float(raw).contiguous(), y, plan.seeds(number))  # pyautoattack takes views of x


class CellEvaluator:
    """Counts cells of a plan on blocks; it reads and writes no file.

    Args:
        plan: what the cells are of.
        model: its network, in eval mode and in float32.
        inspect: what else to measure on a block under an adaptive attack.
        losses: attack every image, right or not, and keep the sum of their cross-entropies with the outcome. Otherwise
            an image costs no more once it is wrong.
    """

    def __init__(
        self, plan: EvalPlan, model: ConditionalModel, inspect: Inspect | None = None, losses: bool = False
    ) -> None:
        self.plan, self.model, self.inspect, self.losses = plan, model, inspect, losses
        self._random: dict[OperatingPoint, bool] = {}

    @torch.no_grad()
    def clean(self, cell: EvalCell, block: Block) -> Outcome:
        """What the network answers without attack."""
        began, network = time.perf_counter(), self._target(cell, block)
        right = network(block.x).argmax(1) == block.y
        return _outcome(block, start(right), network.rows, began)

    def adaptive(self, cell: EvalCell, block: Block, right: Tensor) -> Outcome:
        """What becomes of a block, of which `right` (n,) are right, under an attack on the network itself."""
        assert cell.attack is not None
        began, attack = time.perf_counter(), cell.attack
        network, target = self._attacked(cell, block), self._target(cell, block)
        # Whatever else an attack finds at a point that it has broken does not count.
        network.break_only = network.is_target and not self.losses
        strength, losses = self.plan.strengths[attack.name], torch.zeros_like(block.x[:, 0, 0, 0])
        kept = losses if self.losses else None
        found = adaptive(network, target, block.x, block.y, right, attack, strength, block.seeds, kept)
        others = self._stand_ins(cell, block)
        for other in others:
            # Of averaged outputs: what the attack left is attacked through each end and through the mean of logits.
            left = found == ROBUST
            more = adaptive(other, target, block.x, block.y, left, attack, strength, block.seeds, surrogate=True)
            found = torch.where((found == ROBUST) & (more > 0), more, found)
        rows = network.rows + target.rows + sum(other.rows for other in others)
        network.break_only = False  # whoever inspects the network may attack it for other reasons
        statistics = self.inspect(cell, network, block.x, block.y) if self.inspect else {}
        statistics |= {LOSS: float(losses.double().sum())} if self.losses else {}
        return _outcome(block, found, rows, began, statistics)

    def transfer(
        self, cells: Sequence[EvalCell], block: Block, right: dict[OperatingPoint, Tensor]
    ) -> Iterator[tuple[EvalCell, Outcome]]:
        """The same for cells of one attack that was optimised at one other point."""
        began, (attack,) = time.perf_counter(), {cell.attack for cell in cells}
        assert attack is not None
        network = self._attacked(cells[0]._replace(point=cells[0].source), block)
        targets = {cell.point: self._target(cell, block) for cell in cells}
        strength = self.plan.strengths[attack.name]
        found = transfer(network, targets, block.x, block.y, right, attack, strength, block.seeds)
        share = -(-network.rows // len(cells))  # what was paid once, spread over what it was paid for
        for cell in cells:
            yield cell, _outcome(block, found[cell.point], share + targets[cell.point].rows, began, shared=len(cells))

    def random_at(self, point: OperatingPoint, logits: Logits, x: Tensor, y: Tensor) -> bool:
        """Whether the network itself answers at random there, weight noise apart; asked once per operating point."""
        if point not in self._random:
            self._random[point] = outputs_differ(logits, x, y)
        return self._random[point]

    def _target(self, cell: EvalCell, block: Block) -> QueryCounter:
        return target_model(self.model, cell.point, cell.noise, block.number)

    def _stand_ins(self, cell: EvalCell, block: Block) -> list[QueryCounter]:
        """What else an attacker of averaged outputs goes by: `distcond.dial.stand_ins`."""
        others = NUM_SURROGATES[cell.point.blend] if cell.point.forwards > 1 else 0
        return [self._attacked(cell, block, which) for which in range(others)]

    def _attacked(self, cell: EvalCell, block: Block, which: int | None = None) -> QueryCounter:
        attack, plan = cell.attack, self.plan
        assert attack is not None
        # An attack that averages over draws by itself is given single ones.
        own = attack.eot_draws > 1 or attack.ranks_draws
        noise = "fresh" if cell.noise == "eot" and own else cell.noise
        name, draws = (attack.name, block.number), plan.draws(attack, cell.noise)
        found = attacked_model(self.model, cell.point, noise, draws, name, which)
        found.random = found.random or self.random_at(cell.point, found.logits, block.x, block.y)
        found.draws = plan.spec.eot_draws
        return found


def _outcome(
    block: Block,
    broken_by: Tensor,
    rows: int,
    began: float,
    statistics: dict[str, float] | None = None,
    shared: int = 1,
) -> Outcome:
    labels, found = block.y.cpu().numpy(), np.asarray(broken_by.cpu().numpy(), dtype=np.int8)
    return Outcome(block.members, labels, found, rows, (time.perf_counter() - began) / shared, statistics or {})


def keep_outcome(plan: EvalPlan, cell: EvalCell, block: int, outcome: Outcome) -> None:
    """Write an outcome to its file, beside the settings that decide it."""
    file = plan.file(cell, block)
    if not (file.parent / "settings.json").exists():
        write_json(file.parent / "settings.json", plan.identity(cell) | {"images": plan.split_images})
    outcomes.write(file, outcome)


class BlockEvaluator:
    """Counts the blocks it is given of a run's checkpoint; every outcome is in its file before the next is begun.

    Raises:
        ConfigError: the run has gone on since the plan was made, or its pair was fitted again.
    """

    def __init__(self, plan: EvalPlan, device: torch.device, inspect: Inspect | None = None) -> None:
        run, data = RunDir(plan.run_path), plan.config.data
        # Nobody wants gradients of the weights: without them a backward pass costs half.
        self.model = network_of(plan, device).requires_grad_(False)
        if epoch_at(run, plan.spec.checkpoint) != plan.epoch or weights_digest(self.model) != plan.weights:
            raise ConfigError(f"{plan.run_path}: has a new {plan.spec.checkpoint} checkpoint; start again for it")
        self.cells = CellEvaluator(plan, self.model, inspect)
        self.source = open_source(prepare_data(data), plan.spec.split, device, data.threads)

    @property
    def plan(self) -> EvalPlan:
        """The evaluation whose blocks are counted: any of the same network and images."""
        return self.cells.plan

    @plan.setter
    def plan(self, plan: EvalPlan) -> None:
        self.cells.plan = plan

    def __call__(self, number: int) -> None:
        """Count one block: everything that is asked about it and not yet in a file."""
        (block,) = read_blocks(self.plan, self.source, [number])
        with full_float32():
            for noise in self.plan.spec.noise:
                self._count(block, noise)
            if number == 0:
                write_reports(self.plan, self.model, self.source)

    def _count(self, block: Block, noise: str) -> None:
        """Clean answers once, then every attack."""
        plan = self.plan
        right = {point: self._clean(plan.clean(point, noise), block) for point in plan.points}
        for attack in plan.attacks:
            missing = [cell for cell in plan.attacked(attack, noise) if not plan.file(cell, block.number).exists()]
            for cell in missing:
                if cell.source == cell.point:
                    outcome = self.cells.adaptive(cell, block, right[cell.point])
                    keep_outcome(plan, cell, block.number, outcome)
            for source in dict.fromkeys(cell.source for cell in missing if cell.source != cell.point):
                self._transfer([cell for cell in missing if cell.source == source != cell.point], block, right)

    def _transfer(self, cells: list[EvalCell], block: Block, right: dict[OperatingPoint, Tensor]) -> None:
        for cell, outcome in self.cells.transfer(cells, block, right):
            keep_outcome(self.plan, cell, block.number, outcome)

    def _clean(self, cell: EvalCell, block: Block) -> Tensor:
        file = self.plan.file(cell, block.number)
        if not file.exists():
            keep_outcome(self.plan, cell, block.number, self.cells.clean(cell, block))
        return torch.from_numpy(outcomes.read(file, block.members).correct).to(block.x.device)
