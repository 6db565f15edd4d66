"""One training step for a method: random numbers, clean and adversarial forward passes, and the attack.

Random numbers depend on (seed, epoch, step, purpose). They are drawn for the global batch and sliced to this rank's
rows, so they do not depend on the number of ranks and need no state on resume. The attack runs in eval mode on the bare
module with input gradients only: no collectives, no weight gradients, no update of running statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.attacks.pgd import Loss, pgd, summed_cross_entropy
from distcond.config.schema import AttackConfig
from distcond.layers.condition import Condition, Routing
from distcond.methods.compiled_attack import CompiledAttack
from distcond.methods.stopwatch import NULL_TIMER, Stopwatch
from distcond.models.conditional import ConditionalModel
from distcond.seeding import generator


@dataclass(frozen=True)
class RowSlice:
    """Consecutive rows of the global batch: this rank's share of them and their lam."""

    rows: slice  # this rank's rows
    lam: float | Tensor  # one value if all global rows share it, else (n,) for this rank's rows, on the CPU
    start: int  # first global row
    stop: int  # last global row + 1


@dataclass(frozen=True)
class StepRandomness:
    """Random numbers of one step on one rank. `lam` (B,) is that of the global batch, ascending, on the CPU.

    A dataclass, because DDP does not move their tensors between devices.
    """

    seed: int
    epoch: int
    step: int
    rank: int
    world: int
    lam: Tensor

    @property
    def num_clean(self) -> int:
        """Number of global rows at lam = 0, which come first."""
        return int((self.lam == 0).sum())

    def slice_rows(self, start: int, stop: int) -> RowSlice:
        """Global rows [start, stop). Whether their lam is uniform is decided globally, the same on all ranks."""
        lam = self.lam[start:stop]
        rows = slice(self._local_index(start), self._local_index(stop))
        is_uniform = len(lam) > 0 and bool((lam == lam[0]).all())
        return RowSlice(rows, float(lam[0]) if is_uniform else self.lam[self.rank :: self.world][rows], start, stop)

    def all_rows(self) -> RowSlice:
        """All rows of the global batch."""
        return self.slice_rows(0, len(self.lam))

    def common_route(self, part: RowSlice, routing: Routing) -> bool | None:
        """The path of all global rows of `part`, or None if they differ. One bool is faster than a path per row."""
        routes = self.lam[part.start : part.stop] > routing.threshold
        return None if len(routes) == 0 or bool((routes != routes[0]).any()) else bool(routes[0])

    def uniform(self, part: RowSlice, like: Tensor, purpose: str) -> Tensor:
        """Uniform numbers in [-1, 1] for this rank's rows of `part`, shape and device of `like` (n, C, H, W)."""
        rng = generator(*self.key(purpose), device=like.device)
        # Drawn in row order for the global batch, then laid out in memory like the images.
        draws = torch.rand((len(self.lam), *like.shape[1:]), generator=rng, device=like.device)
        own = draws[self.rank :: self.world][part.rows].mul_(2).sub_(1)
        return own.contiguous(memory_format=torch.channels_last)

    def key(self, *purpose: object) -> tuple[object, ...]:
        """The seed parts of one purpose within this step, the same on all ranks."""
        return (self.seed, *purpose, self.epoch, self.step)

    def _local_index(self, index: int) -> int:
        """Number of this rank's rows before global row `index`."""
        return len(range(self.rank, index, self.world))


AttackMode = Literal["eval", "train"]


class Outcome(NamedTuple):
    """The loss of a step and its counts, which stay on the device."""

    loss: Tensor  # 0-d, this rank's share: the mean over ranks is the mean over the global batch
    tally: Tensor  # (4,) clean correct, clean rows, adversarial correct, adversarial rows


class StepContext:
    """Forward passes and attacks of one step. Labels are (n,) integers or (n, K) class probabilities.

    Args:
        model: the bare model.
        attack: the training attack.
        randomness: the random numbers of the step.
        fold_dtype: dtype of the folded weights that the attack uses; None = do not fold.
        label_smoothing: share of every label spread over all classes; the attack uses the label without smoothing.
        watch: times the attacks.
        attack_mode: "eval" attacks the network with its running statistics; "train" with those of the batch, and every
            attack step updates the running ones and drops units where the network has dropout.
        compiled: runs the attack where the weights are folded; None = eager.
    """

    def __init__(
        self,
        model: ConditionalModel,
        attack: AttackConfig,
        randomness: StepRandomness,
        fold_dtype: torch.dtype | None,
        label_smoothing: float = 0.0,
        watch: Stopwatch = NULL_TIMER,
        attack_mode: AttackMode = "eval",
        compiled: CompiledAttack | None = None,
    ) -> None:
        self.model, self.attack, self.randomness, self.fold_dtype = model, attack, randomness, fold_dtype
        self.label_smoothing, self.watch, self.attack_mode = label_smoothing, watch, attack_mode
        self.compiled = compiled
        self._cache: dict[object, Tensor] = {}
        #: Forward equivalents so far, times rows, by width index. A forward pass counts 1, a backward to the input 1,
        #: a backward to input and weights 2.
        self.spent: dict[int, float] = {}

    def split_by_lam(self) -> tuple[RowSlice, RowSlice]:
        """The rows at lam = 0 and the rows at lam > 0."""
        num_clean = self.randomness.num_clean
        return self.randomness.slice_rows(0, num_clean), self.randomness.slice_rows(num_clean, len(self.randomness.lam))

    def logits(self, x: Tensor, part: RowSlice, purpose: str, width: int = 0) -> Tensor:
        """Forward the images of `part` at their lam, in the model's mode. With gradients on, counts a backward too."""
        self._spend(width, (3 if torch.is_grad_enabled() else 1) * len(x))
        return self.model(x, self.condition(part, purpose, width))

    def logits_without_noise(self, x: Tensor, width: int = 0) -> Tensor:
        """Forward all rows without conditioning noise (amplitude 0), each on the path of its lam."""
        rows = self.randomness.all_rows()
        cond = self._condition(rows, width)
        self._spend(width, (3 if torch.is_grad_enabled() else 1) * len(x))
        return self.model(x, cond._replace(lam=torch.zeros_like(cond.lam[:1])))

    def condition(self, part: RowSlice, purpose: str, width: int = 0) -> Condition:
        """The condition of `part`, with new weight noise keyed by `purpose`; no noise at lam = 0."""
        noise = None if _is_zero(part.lam) else self._draw_noise(purpose, width)
        return self._condition(part, width)._replace(noise=noise)

    def _condition(self, part: RowSlice, width: int) -> Condition:
        """The condition of `part` without noise."""
        cond = self.model.condition(part.lam, width=width)
        route = self.randomness.common_route(part, self.model.routing)
        return cond if route is None else cond._replace(route=route)

    def _draw_noise(self, purpose: str, width: int) -> Tensor | None:
        return self.model.draw_noise(*self.randomness.key("noise", purpose, width))

    def make_adversarial(
        self, x: Tensor, y: Tensor, part: RowSlice, width: int = 0, loss: Loss = summed_cross_entropy
    ) -> Tensor:
        """Attack the images of `part` at their lam, with new noise in every attack step; returns images like x.

        Cached within the step, so that a second loss of the same step uses the same images.
        """
        return self.cached((part.start, part.stop, width), lambda: self._attack(x, y, part, width, loss))

    def cached(self, name: object, compute: Callable[[], Tensor]) -> Tensor:
        """The tensor `name` of this step, computed on first use."""
        if name not in self._cache:
            self._cache[name] = compute()
        return self._cache[name]

    def cross_entropy(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross-entropy, optionally weighted per row, as this rank's share of the global mean (0-d), in float32."""
        losses = F.cross_entropy(logits.float(), y, reduction="none", label_smoothing=self.label_smoothing)
        return self.global_mean(losses if weight is None else losses * weight)

    def global_mean(self, values: Tensor) -> Tensor:
        """This rank's share of a mean over global rows, from per-row values (n,): averaging over ranks completes it."""
        return values.sum() * (self.randomness.world / len(self.randomness.lam))

    def _attack(self, x: Tensor, y: Tensor, part: RowSlice, width: int, loss: Loss) -> Tensor:
        self._spend(width, 2 * self.attack.num_steps * len(x))
        unit = self.randomness.uniform(part, x, f"attack{width}") if self.attack.random_start else None
        mode = eval_mode(self.model) if self.attack_mode == "eval" else nullcontext()
        with self.watch.part("attack"), mode:
            folds = self._folds(part, width)
            if folds is None:
                return pgd(
                    lambda x, n: self.model(x, self.condition(part, f"attack{n}", width)), x, y, self.attack, unit, loss
                )
            if self.compiled is not None:
                return self.compiled(x, y, folds.of_steps(self.attack.num_steps), unit, loss)
            return pgd(lambda x, n: self.model(x, folds.of_step(n)), x, y, self.attack, unit, loss)

    def _folds(self, part: RowSlice, width: int) -> _Folds | None:
        """The folded conditions of the attack's steps; None where they cannot or must not be folded."""
        foldable = (isinstance(part.lam, float) or not self.model.noise_size) and self.attack_mode == "eval"
        if self.fold_dtype is None or not foldable or self.randomness.common_route(part, self.model.routing) is None:
            return None
        if not self.model.noise_size or _is_zero(part.lam):
            with torch.no_grad():
                folded = self.model.fold(self._condition(part, width), self.fold_dtype)
            return _Folds(lambda step: folded, fresh=False)
        refold = self.model.prepare_fold(self._condition(part, width), self.fold_dtype)
        return _Folds(lambda step: refold(self._noise_of_step(step, width)), fresh=True)

    def _noise_of_step(self, step: int, width: int) -> Tensor:
        noise = self._draw_noise(f"attack{step}", width)
        assert noise is not None, "only networks with noise fold anew in each attack step"
        return noise

    def _spend(self, width: int, forwards: float) -> None:
        self.spent[width] = self.spent.get(width, 0.0) + forwards


class _Folds(NamedTuple):
    """The folded conditions of an attack."""

    of_step: Callable[[int], Condition]
    fresh: bool  # whether each step has its own, with new noise

    def of_steps(self, count: int) -> list[Condition]:
        """Those of `count` steps, or one for all."""
        return [self.of_step(step) for step in range(count if self.fresh else 1)]


def _is_zero(lam: float | Tensor) -> bool:
    return isinstance(lam, float) and lam == 0


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch to eval mode; every module's own mode is restored afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def count_correct(clean: tuple[Tensor, Tensor] | None, adversarial: tuple[Tensor, Tensor] | None) -> Tensor:
    """Correct and total rows, (4,) float32, of the clean and the adversarial pass, each (logits, labels) or None."""
    counts = [_count_pass(*pair) if pair is not None else None for pair in (clean, adversarial)]
    device = next(pair[0] for pair in (clean, adversarial) if pair is not None).device
    return torch.cat([torch.zeros(2, device=device) if count is None else count for count in counts])


def to_hard_labels(y: Tensor) -> Tensor:
    """The class (n,) of each label; the most probable one of a mixed label."""
    return y if y.dim() == 1 else y.argmax(1)


def _count_pass(logits: Tensor, y: Tensor) -> Tensor:
    correct = (logits.detach().argmax(1) == to_hard_labels(y)).sum()
    return torch.stack([correct, torch.full_like(correct, len(y))]).float()
