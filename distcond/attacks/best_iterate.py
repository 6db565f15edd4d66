"""Gradient ascent that keeps, for every example, the best point of its whole path and of all its restarts.

Of a random network the best is the one with the highest loss, and no wrong answer ends the search: it was one draw's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distcond.attacks.attack import Logits, proves
from distcond.attacks.ball import ascent, project, scatter
from distcond.attacks.pgd import input_gradient
from distcond.config.schema import AttackConfig
from distcond.seeding import generator

#: (logits (N, K), labels (N,)) to one number per example, (N,), to ascend.
RowLoss = Callable[[Tensor, Tensor], Tensor]


def strongest(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int, loss: RowLoss) -> Tensor:
    """The best of `config.restarts` ascents for each example; one that is broken for good is not attacked again.

    Each restart costs `num_steps` forward and backward passes and one forward. Random starts are a function of
    (seed, restart).
    """
    best, score, broken = x.clone(), x.new_full((len(y),), -torch.inf), torch.zeros_like(y, dtype=torch.bool)
    for restart in range(config.restarts):
        rows = torch.nonzero(~broken).squeeze(1)
        if not len(rows):
            break
        # On the CPU, so that a block has the same start on every device.
        unit = (torch.rand(x.shape, generator=generator(seed, restart)) * 2 - 1).to(x.device)
        found, value, wrong = _ascend(logits, x[rows], y[rows], config, unit[rows], loss)
        better = wrong | (value > score[rows])
        best[rows[better]], score[rows[better]] = found[better], value[better]
        broken[rows] = wrong
    return best


def _ascend(
    logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, unit: Tensor, loss: RowLoss
) -> tuple[Tensor, Tensor, Tensor]:
    """The best point of one path, its loss, and whether the answer there is wrong for good."""
    at = (x + scatter(unit, config.norm, config.epsilon)).clamp(0, 1) if config.random_start else x
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
        # A wrong answer beats any loss: the loss can be high where the answer is still right.
        better = (wrong & ~broken) | ((wrong == broken) & (value > score))
        best[better], score[better], broken = at[better], value[better], broken | wrong
        if step < config.num_steps:
            at = project(at + config.step_size * ascent(grad, config.norm), x, config.norm, config.epsilon)
    return best, score, broken
