"""One process's part of an evaluation: block by block, everything that is asked about it and not yet in a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from distcond.atomic_io import write_json
from distcond.attacks.attack import Attack, Logits
from distcond.attacks.randomness import answers_differ
from distcond.data.loader import to_float
from distcond.data.prepare import open_source, prepare_data
from distcond.engine.campaign import outcomes
from distcond.engine.campaign.cascade import adaptive, start, transfer
from distcond.engine.campaign.masking_files import look_at_points
from distcond.engine.campaign.network import network_of
from distcond.engine.campaign.noise_modes import Counted, attacker, judge
from distcond.engine.campaign.outcomes import ROBUST, Outcome
from distcond.engine.campaign.plan import Measure, Plan
from distcond.engine.campaign.weights_digest import weights_digest
from distcond.errors import ConfigError
from distcond.models.dial import NUM_SURROGATES
from distcond.operating_point import OperatingPoint
from distcond.runs.build import full_float32
from distcond.runs.load_run import epoch_at
from distcond.runs.run_dir import RunDir

#: (measure, the attacked network, x, y) to named numbers that are kept with the outcome of an attack.
Inspect = Callable[[Measure, Counted, Tensor, Tensor], dict[str, float]]
#: (plan, its blocks, called with each block that is done): count them. Any plan of the same network and images.
Count = Callable[[Plan, Sequence[int], Callable[[int], None]], None]


class BlockCounter:
    """Counts the blocks it is given, in float32; every outcome is in its file before the next is begun.

    Raises:
        ConfigError: the run has gone on since the plan was made, or its pair was fitted again.
    """

    def __init__(self, plan: Plan, device: torch.device, inspect: Inspect | None = None) -> None:
        self.plan, self.device, self.inspect = plan, device, inspect
        self._random: dict[tuple[OperatingPoint, int], bool] = {}
        run, data = RunDir(plan.run_path), plan.config.data
        # Nobody wants gradients of the weights: without them a backward pass costs half.
        self.model = network_of(plan, device).requires_grad_(False)
        if epoch_at(run, plan.campaign.checkpoint) != plan.epoch or weights_digest(self.model) != plan.weights:
            raise ConfigError(f"{plan.run_path}: has a new {plan.campaign.checkpoint} checkpoint; start again for it")
        self.source = open_source(prepare_data(data), plan.campaign.split, device, data.threads)

    def random_at(self, point: OperatingPoint, width: int, logits: Logits, x: Tensor, y: Tensor) -> bool:
        """Whether the network itself answers at random there, weight noise apart; asked once per operating point."""
        if (point, width) not in self._random:
            self._random[point, width] = answers_differ(logits, x, y)
        return self._random[point, width]

    def __call__(self, block: int) -> None:
        """Count one block."""
        ((raw, y),) = self.source.read([self.plan.members(block)])
        x = to_float(raw).contiguous()  # pyautoattack takes views of it
        with full_float32():
            for width in self.plan.widths:
                for noise in self.plan.campaign.noise:
                    Part(self, block, width, noise, x, y).count()
            if block == 0:
                look_at_points(self.plan, self.model, self.source)


class Part:
    """One block at one width under one noise mode."""

    def __init__(self, counter: BlockCounter, block: int, width: int, noise: str, x: Tensor, y: Tensor) -> None:
        self.counter, self.plan, self.block = counter, counter.plan, block
        self.width, self.noise, self.x, self.y = width, noise, x, y
        self.right: dict[OperatingPoint, Tensor] = {}

    def count(self) -> None:
        """Clean answers once, then every attack."""
        for point in self.plan.points:
            self.right[point] = self._clean(self.plan.clean(point, self.width, self.noise))
        for attack in self.plan.attacks:
            measures = self.plan.attacked(attack, self.width, self.noise)
            missing = [m for m in measures if not self.plan.file(m, self.block).exists()]
            for measure in missing:
                if measure.source == measure.point:
                    self._adaptive(attack, measure)
            for source in dict.fromkeys(m.source for m in missing if m.source != m.point):
                self._transfer(attack, [m for m in missing if m.source == source != m.point], source)

    @torch.no_grad()
    def _clean(self, measure: Measure) -> Tensor:
        file, members = self.plan.file(measure, self.block), self.plan.members(self.block)
        if file.exists():
            return torch.from_numpy(outcomes.read(file, members).correct).to(self.x.device)
        began, network = time.perf_counter(), self._judge(measure.point)
        right = network(self.x).argmax(1) == self.y
        self._keep(measure, start(right), network.rows, began, {})
        return right

    def _adaptive(self, attack: Attack, measure: Measure) -> None:
        began, network, judging = time.perf_counter(), self._attacker(attack, measure.point), self._judge(measure.point)
        strength, seed = self.plan.strengths[attack.name], self.plan.attack_seed(attack, self.block)
        right, others = self.right[measure.point], self._stand_ins(attack, measure.point)
        found = adaptive(network, judging, self.x, self.y, right, attack, strength, seed)
        for other in others:
            # Of averaged outputs: what the attack left is attacked through each end and through the mean of logits.
            more = adaptive(other, judging, self.x, self.y, found == ROBUST, attack, strength, seed)
            found = torch.where((found == ROBUST) & (more > 0), more, found)
        rows, inspect = network.rows + judging.rows + sum(other.rows for other in others), self.counter.inspect
        statistics = inspect(measure, network, self.x, self.y) if inspect else {}
        self._keep(measure, found, rows, began, statistics)

    def _transfer(self, attack: Attack, measures: list[Measure], source: OperatingPoint) -> None:
        began, network = time.perf_counter(), self._attacker(attack, source)
        judges = {measure.point: self._judge(measure.point) for measure in measures}
        strength, seed = self.plan.strengths[attack.name], self.plan.attack_seed(attack, self.block)
        found = transfer(network, judges, self.x, self.y, self.right, attack, strength, seed)
        share = -(-network.rows // len(measures))  # what was paid once, spread over what it was paid for
        for measure in measures:
            self._keep(measure, found[measure.point], share + judges[measure.point].rows, began, {}, len(measures))

    def _judge(self, point: OperatingPoint) -> Counted:
        noise_seed = self.plan.config.eval.noise_seed
        return judge(self.counter.model, point, self.width, self.noise, noise_seed, self.block)

    def _stand_ins(self, attack: Attack, point: OperatingPoint) -> list[Counted]:
        """What else an attacker of averaged outputs goes by: `distcond.models.dial.surrogate_networks`."""
        others = NUM_SURROGATES[point.blend] if point.forwards > 1 else 0
        return [self._attacker(attack, point, which) for which in range(others)]

    def _attacker(self, attack: Attack, point: OperatingPoint, which: int | None = None) -> Counted:
        # An attack that averages over draws by itself is given single ones.
        own = attack.eot_draws > 1 or attack.ranks_draws
        noise = "fresh" if self.noise == "eot" and own else self.noise
        draws, noise_seed = self.plan.draws(attack, self.noise), self.plan.config.eval.noise_seed
        model, name = self.counter.model, (attack.name, self.block)
        found = attacker(model, point, self.width, noise, noise_seed, draws, name, which)
        found.random = found.random or self.counter.random_at(point, self.width, found.logits, self.x, self.y)
        found.draws = self.plan.campaign.eot_draws
        return found

    def _keep(
        self, measure: Measure, found: Tensor, rows: int, began: float, statistics: dict[str, float], shared: int = 1
    ) -> None:
        file, seconds = self.plan.file(measure, self.block), (time.perf_counter() - began) / shared
        if not (file.parent / "settings.json").exists():
            write_json(file.parent / "settings.json", self.plan.identity(measure) | {"images": self.plan.split_images})
        broken_by = np.asarray(found.cpu().numpy(), dtype=np.int8)
        labels = np.asarray(self.y.cpu().numpy())
        outcomes.write(file, Outcome(self.plan.members(self.block), labels, broken_by, rows, seconds, statistics))
