"""FGSM, the fast gradient sign method (Goodfellow et al. 2015): one step of length epsilon from the image."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from distcond.attacks.attack import Attack, Logits
from distcond.attacks.pgd import pgd_over_restarts
from distcond.attacks.row_losses import cross_entropy
from distcond.attacks.starts import Seeds
from distcond.config.schema import AttackConfig


def fgsm(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds) -> Tensor:
    """See `attack.Run`. With norm L2 the step follows the gradient instead of its sign."""
    return pgd_over_restarts(logits, x, y, _one_step(config, frozenset()), seeds, cross_entropy)


def _one_step(config: AttackConfig, given: frozenset[str]) -> AttackConfig:
    return replace(config, step_size=config.epsilon, num_steps=1, restarts=1, random_start=False)


FGSM = Attack("fgsm", "one gradient step of length epsilon from the image", fgsm, settle=_one_step)
