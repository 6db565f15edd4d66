"""Gradient ascent that keeps, for every example, the best of the image and of every point of all its restarts.

Of a random network the best is the one with the highest loss, and no wrong answer ends the search: it was one draw's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distcond.attacks.attack import Logits, proves
from distcond.attacks.pgd import input_gradient
from distcond.attacks.projection import project, random_init, steepest_direction
from distcond.config.schema import AttackConfig
from distcond.seeding import generator

#: (logits (N, K), labels (N,)) to one number per example, (N,), to ascend.
RowLoss = Callable[[Tensor, Tensor], Tensor]


def strongest(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int, loss: RowLoss) -> Tensor:
    """The best of x and `config.restarts` ascents for each example; one that an ascent broke is not attacked again.

    Each restart costs `num_steps` forward and backward passes and one forward; x itself, where no ascent begins at it,
    one forward. Random starts are a function of (seed, restart).
    """
    best, broken = x.clone(), torch.zeros_like(y, dtype=torch.bool)
    score, lost = _unattacked(logits, x, y, config, loss)
    for restart in range(config.restarts):
        rows = torch.nonzero(~broken).squeeze(1)
        if not len(rows):
            break
        # On the CPU, so that a block has the same start on every device.
        unit = (torch.rand(x.shape, generator=generator(seed, restart)) * 2 - 1).to(x.device)
        found, value, wrong = _ascend(logits, x[rows], y[rows], config, unit[rows], loss)
        better = _beats(wrong, value, lost[rows], score[rows])
        best[rows[better]], score[rows[better]] = found[better], value[better]
        broken[rows], lost[rows] = wrong, lost[rows] | wrong
    return best


@torch.no_grad()
def _unattacked(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, loss: RowLoss) -> tuple[Tensor, Tensor]:
    """Loss and wrong answers at x; neither where an ascent begins there, or where the next answer is another one."""
    if not config.random_start or not proves(logits):
        return x.new_full((len(y),), -torch.inf), torch.zeros_like(y, dtype=torch.bool)
    answers = logits(x)
    return loss(answers, y), answers.argmax(1) != y


def _beats(wrong: Tensor, value: Tensor, lost: Tensor, score: Tensor) -> Tensor:
    """Where a point beats the best so far. A wrong answer beats any loss: it can be high where the answer is right."""
    return (wrong & ~lost) | ((wrong == lost) & (value > score))


def _ascend(
    logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, unit: Tensor, loss: RowLoss
) -> tuple[Tensor, Tensor, Tensor]:
    """The best point of one path, its loss, and whether the answer there is wrong for good."""
    at = (x + random_init(unit, config.norm, config.epsilon)).clamp(0, 1) if config.random_start else x
    best, score, broken = at.clone(), x.new_full((len(y),), -torch.inf), torch.zeros_like(y, dtype=torch.bool)
    for step in range(config.num_steps + 1):
        seen: list[Tensor] = []

        def objective(leaf: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(logits(leaf))
            return loss(seen[0], y).sum()

        if step < config.num_steps:
            grad = input_gradient(objective, at)
        else:
            with torch.no_grad():
                objective(at)
        value, wrong = loss(seen[0].detach(), y), (seen[0].detach().argmax(1) != y) & proves(logits)
        better = _beats(wrong, value, broken, score)
        best[better], score[better], broken = at[better], value[better], broken | wrong
        if step < config.num_steps:
            at = project(at + config.step_size * steepest_direction(grad, config.norm), x, config.norm, config.epsilon)
    return best, score, broken
