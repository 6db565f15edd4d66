"""PGD on the margin of Carlini and Wagner (2017), whose gradient does not vanish where the network is certain."""

from __future__ import annotations

from torch import Tensor

from distcond.attacks.attack import Attack, Logits
from distcond.attacks.pgd import pgd_over_restarts
from distcond.attacks.row_losses import margin
from distcond.attacks.starts import Seeds
from distcond.config.schema import AttackConfig


def cw(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds) -> Tensor:
    """See `attack.Run`; maximises the margin."""
    return pgd_over_restarts(logits, x, y, config, seeds, margin)


CW = Attack("cw", "PGD on the margin between the best wrong logit and the right one", cw)
