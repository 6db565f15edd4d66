"""One training step as a method sees it: its randomness, its clean and adversarial forwards, the attack between them.

Randomness is a function of (seed, epoch, step, purpose), drawn for the whole global batch and then cut to this rank's
rows: it does not depend on the number of ranks, and a resumed run has no state to restore. The attack runs in eval mode
on the bare module, with input gradients only: no collective, no weight gradient and no update of running statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.attacks.pgd import Loss, pgd, summed_cross_entropy
from distcond.config.schema import AttackConfig
from distcond.layers.condition import Condition, Routing
from distcond.methods.stopwatch import NULL_TIMER, Stopwatch
from distcond.models.conditional import ConditionalModel
from distcond.seeding import generator


@dataclass(frozen=True)
class RowSlice:
    """Consecutive rows of the global batch: which local rows they are, and their lam."""

    rows: slice
    lam: float | Tensor  # one value when the whole global part shares it, else (n,) for the local rows, on the CPU
    start: int  # of the global rows
    stop: int


@dataclass(frozen=True)
class StepRandomness:
    """One step of one rank. `lam` (B,) is that of the whole global batch, ascending, on the CPU.

    A dataclass, because DDP leaves those untouched on their way into the step.
    """

    seed: int
    epoch: int
    step: int
    rank: int
    world: int
    lam: Tensor

    @property
    def num_clean(self) -> int:
        """Global rows at lam = 0, which come first."""
        return int((self.lam == 0).sum())

    def part(self, start: int, stop: int) -> RowSlice:
        """Global rows start to stop (excluded). Whether lam is uniform is decided globally: alike on all ranks."""
        lam = self.lam[start:stop]
        rows = slice(self._local(start), self._local(stop))
        alike = len(lam) > 0 and bool((lam == lam[0]).all())
        return RowSlice(rows, float(lam[0]) if alike else self.lam[self.rank :: self.world][rows], start, stop)

    def everything(self) -> RowSlice:
        """The whole batch as one part."""
        return self.part(0, len(self.lam))

    def common_route(self, part: RowSlice, routing: Routing) -> bool | None:
        """The one path that every global row of `part` takes, or None: one bool is the faster form of the same."""
        routes = self.lam[part.start : part.stop] > routing.threshold
        return None if len(routes) == 0 or bool((routes != routes[0]).any()) else bool(routes[0])

    def unit(self, part: RowSlice, like: Tensor, purpose: str) -> Tensor:
        """Uniform numbers in [-1, 1] for this rank's rows of `part`, shape and device of `like` (n, C, H, W)."""
        source = generator(*self.key(purpose), device=like.device)
        # The same memory layout as the images: the draw itself is made in row order, for any world size.
        whole = torch.rand((len(self.lam), *like.shape[1:]), generator=source, device=like.device)
        mine = whole[self.rank :: self.world][part.rows].mul_(2).sub_(1)
        return mine.contiguous(memory_format=torch.channels_last)

    def key(self, *purpose: object) -> tuple[object, ...]:
        """The seed parts of one purpose within this step, the same on all ranks."""
        return (self.seed, *purpose, self.epoch, self.step)

    def _local(self, index: int) -> int:
        """How many of this rank's rows come before global row `index`."""
        return len(range(self.rank, index, self.world))


class Outcome(NamedTuple):
    """What a step computes: the loss to differentiate, and counts that stay on the device."""

    loss: Tensor  # 0-d, this rank's share: the mean over ranks is the mean over the global batch
    tally: Tensor  # (4,) clean correct, clean rows, adversarial correct, adversarial rows


class StepContext:
    """One step's view of the model.

    Labels are (n,) integers or (n, K) shares of classes.

    Args:
        fold_dtype: number format of the folded attack, None = attack as written.
        label_smoothing: share of every label that is spread over all classes; the attack ascends the label itself.
        watch: told when an attack runs.
    """

    def __init__(
        self,
        model: ConditionalModel,
        attack: AttackConfig,
        draws: StepRandomness,
        fold_dtype: torch.dtype | None,
        label_smoothing: float = 0.0,
        watch: Stopwatch = NULL_TIMER,
    ) -> None:
        self.model, self.attack, self.draws, self.fold_dtype = model, attack, draws, fold_dtype
        self.label_smoothing, self.watch = label_smoothing, watch
        self._made: dict[object, Tensor] = {}
        #: Forward-equivalents spent so far, times rows, by width: a forward is 1, a backward to the input 1, to
        #: input and weights 2.
        self.spent: dict[int, float] = {}

    def split(self) -> tuple[RowSlice, RowSlice]:
        """The rows at lam = 0 and the others."""
        num_clean = self.draws.num_clean
        return self.draws.part(0, num_clean), self.draws.part(num_clean, len(self.draws.lam))

    def logits(self, x: Tensor, part: RowSlice, purpose: str, width: int = 0) -> Tensor:
        """A forward of a part's images at their lam, in the model's mode; with gradients on, a backward will follow."""
        self._spend(width, (3 if torch.is_grad_enabled() else 1) * len(x))
        return self.model(x, self.condition(part, purpose, width))

    def condition(self, part: RowSlice, purpose: str, width: int = 0) -> Condition:
        """The condition of a part, with a fresh draw of weight noise named by `purpose`; none where lam is 0."""
        noise = None if _all_zero(part.lam) else self.model.draw_noise(*self.draws.key("noise", purpose, width))
        cond = self.model.condition(part.lam, width=width, noise=noise)
        route = self.draws.common_route(part, self.model.routing)
        return cond if route is None else cond._replace(route=route)

    def adversarial(
        self, x: Tensor, y: Tensor, part: RowSlice, width: int = 0, loss: Loss = summed_cross_entropy
    ) -> Tensor:
        """Adversarial images of a part (n, C, H, W), against a network at that part's lam with fresh noise per step."""
        return self.once((part.start, part.stop, width), lambda: self._attack(x, y, part, width, loss))

    def once(self, name: object, make: Callable[[], Tensor]) -> Tensor:
        """What an objective makes for its loss: made anew for every step, but not for a second loss of the step."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _attack(self, x: Tensor, y: Tensor, part: RowSlice, width: int, loss: Loss) -> Tensor:
        self._spend(width, 2 * self.attack.num_steps * len(x))
        unit = self.draws.unit(part, x, f"attack{width}") if self.attack.random_start else None
        with self.watch.part("attack"), eval_mode(self.model):
            return pgd(self._attacked(part, width), x, y, self.attack, unit, loss)

    def _attacked(self, part: RowSlice, width: int) -> Callable[[Tensor, int], Tensor]:
        foldable = isinstance(part.lam, float) or not self.model.noise_size
        if self.fold_dtype is None or not foldable or self.draws.common_route(part, self.model.routing) is None:
            return lambda x, step: self.model(x, self.condition(part, f"attack{step}", width))
        if self.model.noise_size:
            return lambda x, step: self.model(x, self._folded(part, f"attack{step}", width))
        folded = self._folded(part, "attack", width)
        return lambda x, step: self.model(x, folded)

    @torch.no_grad()
    def _folded(self, part: RowSlice, purpose: str, width: int) -> Condition:
        assert self.fold_dtype is not None
        return self.model.fold(self.condition(part, purpose, width), self.fold_dtype)

    def _spend(self, width: int, forwards: float) -> None:
        self.spent[width] = self.spent.get(width, 0.0) + forwards

    def cross_entropy(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """This rank's share of the mean over the global batch of (weighted) cross-entropy, in float32."""
        losses = F.cross_entropy(logits.float(), y, reduction="none", label_smoothing=self.label_smoothing)
        return self.share(losses if weight is None else losses * weight)

    def share(self, values: Tensor) -> Tensor:
        """Sum of per-row values (n,), scaled so that the mean over ranks is the mean over the global batch."""
        return values.sum() * (self.draws.world / len(self.draws.lam))


def _all_zero(lam: float | Tensor) -> bool:
    return isinstance(lam, float) and lam == 0


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, every module's own mode back afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def count_correct(clean: tuple[Tensor, Tensor] | None, adversarial: tuple[Tensor, Tensor] | None) -> Tensor:
    """Counts of correct and all rows for (logits, labels) of the clean and the adversarial pass."""
    counts = [_count_pass(*pair) if pair is not None else None for pair in (clean, adversarial)]
    device = next(pair[0] for pair in (clean, adversarial) if pair is not None).device
    return torch.cat([torch.zeros(2, device=device) if count is None else count for count in counts])


def hard_labels(y: Tensor) -> Tensor:
    """The class (n,) of each label, the largest share of a mixed one."""
    return y if y.dim() == 1 else y.argmax(1)


def _count_pass(logits: Tensor, y: Tensor) -> Tensor:
    correct = (logits.detach().argmax(1) == hard_labels(y)).sum()
    return torch.stack([correct, torch.full_like(correct, len(y))]).float()
