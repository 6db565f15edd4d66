"""The passes of one training step: clean and adversarial forwards, and the attack between them.

An objective is written in these few words. The attack runs in eval mode on the bare module, with input gradients only:
no collective, no weight gradient and no update of running statistics inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.attacks.pgd import Loss, pgd, summed_cross_entropy
from distcond.condition import Condition
from distcond.config.schema import AttackConfig
from distcond.methods.draws import Draws, Part
from distcond.methods.stopwatch import STILL, Stopwatch
from distcond.models.conditional import ConditionalModel


class Outcome(NamedTuple):
    """What a step computes: the loss to differentiate, and counts that stay on the device."""

    loss: Tensor  # 0-d, this rank's share: the mean over ranks is the mean over the global batch
    tally: Tensor  # (4,) clean correct, clean rows, adversarial correct, adversarial rows


class Passes:
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
        draws: Draws,
        fold_dtype: torch.dtype | None,
        label_smoothing: float = 0.0,
        watch: Stopwatch = STILL,
    ) -> None:
        self.model, self.attack, self.draws, self.fold_dtype = model, attack, draws, fold_dtype
        self.label_smoothing, self.watch = label_smoothing, watch
        self._made: dict[object, Tensor] = {}
        #: Forward-equivalents spent so far, times rows, by width: a forward is 1, a backward to the input 1, to
        #: input and weights 2.
        self.spent: dict[int, float] = {}

    def split(self) -> tuple[Part, Part]:
        """The rows at lam = 0 and the others."""
        num_clean = self.draws.num_clean
        return self.draws.part(0, num_clean), self.draws.part(num_clean, len(self.draws.lam))

    def logits(self, x: Tensor, part: Part, purpose: str, width: int = 0) -> Tensor:
        """A forward of a part's images at their lam, in the model's mode; with gradients on, a backward will follow."""
        self._spend(width, (3 if torch.is_grad_enabled() else 1) * len(x))
        return self.model(x, self.condition(part, purpose, width))

    def condition(self, part: Part, purpose: str, width: int = 0) -> Condition:
        """The condition of a part, with a fresh draw of weight noise named by `purpose`; none where lam is 0."""
        noise = None if _all_zero(part.lam) else self.model.draw_noise(*self.draws.key("noise", purpose, width))
        cond = self.model.condition(part.lam, width=width, noise=noise)
        route = self.draws.common_route(part, self.model.routing)
        return cond if route is None else cond._replace(route=route)

    def adversarial(
        self, x: Tensor, y: Tensor, part: Part, width: int = 0, loss: Loss = summed_cross_entropy
    ) -> Tensor:
        """Adversarial images of a part (n, C, H, W), against a network at that part's lam with fresh noise per step."""
        return self.once((part.start, part.stop, width), lambda: self._attack(x, y, part, width, loss))

    def once(self, name: object, make: Callable[[], Tensor]) -> Tensor:
        """What an objective makes for its loss: made anew for every step, but not for a second loss of the step."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _attack(self, x: Tensor, y: Tensor, part: Part, width: int, loss: Loss) -> Tensor:
        self._spend(width, 2 * self.attack.num_steps * len(x))
        unit = self.draws.unit(part, x, f"attack{width}") if self.attack.random_start else None
        with self.watch.part("attack"), evaluating(self.model):
            return pgd(self._attacked(part, width), x, y, self.attack, unit, loss)

    def _attacked(self, part: Part, width: int) -> Callable[[Tensor, int], Tensor]:
        foldable = isinstance(part.lam, float) or not self.model.noise_size
        if self.fold_dtype is None or not foldable or self.draws.common_route(part, self.model.routing) is None:
            return lambda x, step: self.model(x, self.condition(part, f"attack{step}", width))
        if self.model.noise_size:
            return lambda x, step: self.model(x, self._folded(part, f"attack{step}", width))
        folded = self._folded(part, "attack", width)
        return lambda x, step: self.model(x, folded)

    @torch.no_grad()
    def _folded(self, part: Part, purpose: str, width: int) -> Condition:
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
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, every module's own mode back afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def tally(clean: tuple[Tensor, Tensor] | None, adversarial: tuple[Tensor, Tensor] | None) -> Tensor:
    """Counts of correct and all rows for (logits, labels) of the clean and the adversarial pass."""
    counts = [_count(*pair) if pair is not None else None for pair in (clean, adversarial)]
    device = next(pair[0] for pair in (clean, adversarial) if pair is not None).device
    return torch.cat([torch.zeros(2, device=device) if count is None else count for count in counts])


def hard(y: Tensor) -> Tensor:
    """The class (n,) of each label, the largest share of a mixed one."""
    return y if y.dim() == 1 else y.argmax(1)


def _count(logits: Tensor, y: Tensor) -> Tensor:
    correct = (logits.detach().argmax(1) == hard(y)).sum()
    return torch.stack([correct, torch.full_like(correct, len(y))]).float()
