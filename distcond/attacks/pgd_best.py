"""PGD (Madry et al. 2018) with restarts and the best iterate kept: the PGD of evaluations."""

from __future__ import annotations

from torch import Tensor

from distcond.attacks.attack import Attack, Logits
from distcond.attacks.best_iterate import strongest
from distcond.attacks.row_losses import cross_entropy
from distcond.config.schema import AttackConfig


def pgd_best(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int) -> Tensor:
    """See `attack.Run`: ascends the cross-entropy."""
    return strongest(logits, x, y, config, seed, cross_entropy)


PGD = Attack("pgd-best", "projected gradient descent on the cross-entropy, random restarts, best iterate", pgd_best)
