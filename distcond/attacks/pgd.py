"""Projected gradient descent (Madry et al. 2018), the attack of training and of every RA printed here.

One step is one forward and one backward to the input: no weight gradient is ever computed. The loss is summed, not
averaged, so that reduced precision does not lose the gradients of a large batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.attacks.projection import project, random_init, steepest_direction
from distcond.config.schema import AttackConfig

#: (adversarial logits, labels) -> one number to ascend.
Loss = Callable[[Tensor, Tensor], Tensor]


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
    """Adversarial images for x (N, C, H, W) in [0, 1], inside the ball and [0, 1].

    Args:
        logits: (images, step index) to logits; the index lets a noisy network draw afresh at each step.
        y: labels (N,), or whatever `loss` takes.
        unit: the random start, uniform in [-1, 1] like x; ignored unless `attack.random_start`.
    """
    moved = x
    if attack.random_start:
        assert unit is not None, "a random start needs its random numbers"
        moved = (x + random_init(unit, attack.norm, attack.epsilon)).clamp(0, 1)
    for step in range(attack.num_steps):

        def objective(at: Tensor, step: int = step) -> Tensor:
            return loss(logits(at, step), y)

        grad = input_gradient(objective, moved)
        moved = project(
            moved + attack.step_size * steepest_direction(grad, attack.norm), x, attack.norm, attack.epsilon
        )
    return moved.detach()


def input_gradient(objective: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """d objective / d input; parameters get no gradient."""
    leaf = at.detach().requires_grad_()
    with torch.enable_grad():
        # A view, because the FLOP counter of torch refuses a gradient towards a leaf that a module was given.
        value = objective(leaf.view_as(leaf))
    return torch.autograd.grad(value, leaf)[0]
