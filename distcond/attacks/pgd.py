"""Projected gradient descent (Madry et al. 2018): the attack of training, and those of evaluations.

One step is one forward and one backward to the input: no weight gradient is ever computed. The loss is summed, not
averaged, so that reduced precision does not lose the gradients of a large batch.

- `pgd`, of training: the last point of one path.
- "pgd", of evaluations: the best of the image and of every point of all restarts ("best iterate").
- "pgd-last": only the last point of each restart counts, as in the published evaluations of many papers.

On a random network the best point is the one with the highest loss, and a wrong answer does not end the search: it
holds for one draw only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.attacks.attack import Attack, Logits, is_deterministic, stops_when_broken
from distcond.attacks.projection import project, random_init, steepest_direction
from distcond.attacks.row_losses import cross_entropy
from distcond.attacks.starts import Seeds, uniform
from distcond.config.schema import AttackConfig

#: (adversarial logits, labels) -> one number to ascend.
Loss = Callable[[Tensor, Tensor], Tensor]
#: (logits (N, K), labels (N,)) to one number per example, (N,), to ascend.
RowLoss = Callable[[Tensor, Tensor], Tensor]


def summed_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy summed over rows, in float32."""
    return F.cross_entropy(logits.float(), y, reduction="sum")


def pgd(
    logits: Callable[[Tensor, int], Tensor],
    x: Tensor,
    y: Tensor,
    attack: AttackConfig,
    unit: Tensor | None,
    loss: Loss = summed_cross_entropy,
) -> Tensor:
    """Adversarial images for x (N, C, H, W) in [0, 1], within the threat model and [0, 1].

    Args:
        logits: (images, step index) to logits; the index lets a noisy network draw afresh at each step.
        y: labels (N,), or whatever `loss` takes.
        unit: the random start, uniform in [-1, 1] like x; ignored unless `attack.random_start`.
    """
    moved = random_start(x, attack, unit)
    for step in range(attack.num_steps):

        def objective(at: Tensor, step: int = step) -> Tensor:
            return loss(logits(at, step), y)

        grad = input_gradient(objective, moved)
        moved = project(
            moved + attack.step_size * steepest_direction(grad, attack.norm), x, attack.norm, attack.epsilon
        )
    return moved.detach()


def random_start(x: Tensor, attack: AttackConfig, unit: Tensor | None) -> Tensor:
    """Where an attack on x starts: at x, or with `attack.random_start` at the point that `unit` gives."""
    if not attack.random_start:
        return x
    assert unit is not None, "a random start needs its random numbers"
    return (x + random_init(unit, attack.norm, attack.epsilon)).clamp(0, 1)


def input_gradient(objective: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """d objective / d input; parameters get no gradient."""
    leaf = at.detach().requires_grad_()
    with torch.enable_grad():
        # A view, because the FLOP counter of torch refuses a gradient towards a leaf that a module was given.
        value = objective(leaf.view_as(leaf))
    return torch.autograd.grad(value, leaf)[0]


def pgd_over_restarts(
    logits: Logits,
    x: Tensor,
    y: Tensor,
    config: AttackConfig,
    seeds: Seeds,
    loss: RowLoss = cross_entropy,
    last: bool = False,
) -> Tensor:
    """The best of x and `config.restarts` ascents per example; an example that is broken is not attacked again.

    Each restart costs `num_steps` forward and backward passes and one forward; x itself, where no ascent begins at it,
    one forward. Where only wrong answers count (`stops_when_broken`), an example costs nothing once it is broken, and
    neither x nor the last point is evaluated.

    Args:
        last: only the last point of each ascent counts.
    """
    if stops_when_broken(logits):
        return _first_wrong(logits, x, y, config, seeds, loss, last)
    if last and config.restarts == 1:
        return _ascend(logits, x, y, config, seeds, loss)
    best, broken = x.clone(), torch.zeros_like(y, dtype=torch.bool)
    score, lost = _score_image(logits, x, y, config, loss, last)
    for restart in range(config.restarts):
        rows = torch.nonzero(~broken).squeeze(1)
        if not len(rows):
            break
        found, value, wrong = _best_point(logits, x[rows], y[rows], config, seeds[rows.cpu()] + restart, loss, last)
        better = _beats(wrong, value, lost[rows], score[rows])
        best[rows[better]], score[rows[better]] = found[better], value[better]
        broken[rows], lost[rows] = wrong, lost[rows] | wrong
    return best


@torch.no_grad()
def _score_image(
    logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, loss: RowLoss, last: bool
) -> tuple[Tensor, Tensor]:
    """Loss and wrong answers at x; -inf and False where x is no candidate or the network is random."""
    if last or not config.random_start or not is_deterministic(logits):
        return x.new_full((len(y),), -torch.inf), torch.zeros_like(y, dtype=torch.bool)
    answers = logits(x)
    return loss(answers, y), answers.argmax(1) != y


def _beats(wrong: Tensor, value: Tensor, lost: Tensor, score: Tensor) -> Tensor:
    """Where a point beats the best so far. A wrong answer beats any loss, which may be high for a right answer."""
    return (wrong & ~lost) | ((wrong == lost) & (value > score))


def _start_point(x: Tensor, config: AttackConfig, seeds: Seeds) -> Tensor:
    """Start of an ascent: x, or a random point of the threat model."""
    if not config.random_start:
        return x
    return (x + random_init(uniform(seeds, x), config.norm, config.epsilon)).clamp(0, 1)


def _step(at: Tensor, grad: Tensor, x: Tensor, config: AttackConfig) -> Tensor:
    return project(at + config.step_size * steepest_direction(grad, config.norm), x, config.norm, config.epsilon)


def _gradient_and_logits(logits: Logits, at: Tensor, y: Tensor, loss: RowLoss) -> tuple[Tensor, Tensor]:
    """The gradient (N, C, H, W) of the loss at a point, and the logits (N, K) there."""
    seen: list[Tensor] = []

    def objective(leaf: Tensor) -> Tensor:
        seen.append(logits(leaf))
        return loss(seen[0], y).sum()

    return input_gradient(objective, at), seen[0].detach()


def _ascend(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds, loss: RowLoss) -> Tensor:
    """The last point of one path."""
    at = _start_point(x, config, seeds)
    for _ in range(config.num_steps):
        at = _step(at, _gradient_and_logits(logits, at, y, loss)[0], x, config)
    return at


def _best_point(
    logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds, loss: RowLoss, last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The best point of one path, its loss, and whether the answer there is wrong (never for a random network)."""
    at = _start_point(x, config, seeds)
    best, score, broken = at.clone(), x.new_full((len(y),), -torch.inf), torch.zeros_like(y, dtype=torch.bool)
    for step in range(config.num_steps + 1):
        if step < config.num_steps:
            grad, answers = _gradient_and_logits(logits, at, y, loss)
        else:
            with torch.no_grad():
                answers = logits(at)
        if step == config.num_steps or not last:
            value, wrong = loss(answers, y), (answers.argmax(1) != y) & is_deterministic(logits)
            better = _beats(wrong, value, broken, score)
            best[better], score[better], broken = at[better], value[better], broken | wrong
        if step < config.num_steps:
            at = _step(at, grad, x, config)
    return best, score, broken


def _first_wrong(
    logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds, loss: RowLoss, last: bool
) -> Tensor:
    """The first wrongly classified point of each example's ascents, else the last point, not evaluated."""
    found, rows = x.clone(), torch.arange(len(y), device=x.device)
    for restart in range(config.restarts):
        left, at = rows, _start_point(x[rows], config, seeds[rows.cpu()] + restart)
        for _ in range(config.num_steps):
            grad, answers = _gradient_and_logits(logits, at, y[left], loss)
            right = answers.argmax(1) == y[left]
            if not last and not bool(right.all()):
                found[left[~right]] = at[~right]
                left, at, grad = left[right], at[right], grad[right]
                if not len(left):
                    break
            at = _step(at, grad, x[left], config)
        found[left] = at
        rows = left
        if restart + 1 < config.restarts and len(rows):
            with torch.no_grad():
                rows = rows[logits(at).argmax(1) == y[rows]]
        if not len(rows):
            break
    return found


def best_iterate(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds) -> Tensor:
    """See `attack.Run`: ascends the cross-entropy."""
    return pgd_over_restarts(logits, x, y, config, seeds)


def last_iterate(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds) -> Tensor:
    """See `attack.Run`: ascends the cross-entropy; earlier iterates do not count."""
    return pgd_over_restarts(logits, x, y, config, seeds, last=True)


PGD = Attack("pgd", "projected gradient descent on the cross-entropy, random restarts, best iterate", best_iterate)
PGD_LAST = Attack("pgd-last", "the same, only the last iterate of each restart counts, as in many papers", last_iterate)
