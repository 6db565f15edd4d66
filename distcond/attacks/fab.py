"""The fast adaptive boundary attack towards targets (Croce and Hein 2020), by pyautoattack.

It looks for the nearest wrong answer, so where it finds none within the ball it gives the image itself.
"""

from __future__ import annotations

from torch import Tensor

from distcond.attacks.apgd import TARGETS
from distcond.attacks.attack import Attack, Logits, protocol
from distcond.attacks.library import drawing, number_of_classes, part
from distcond.attacks.randomness import is_random, random_refusal
from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError


def fab_targeted(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int) -> Tensor:
    """See `attack.Run`: towards each of the most likely wrong classes in turn, at most nine.

    Raises:
        ConfigError: a random network.
    """
    if is_random(logits, x, y):
        raise ConfigError(random_refusal("fab-t"))
    with drawing(seed, x.device):
        targets = min(TARGETS, number_of_classes(logits, x) - 1)
        attack = part("fab_pt", "FABAttack_PT")(
            logits, n_restarts=config.restarts, n_iter=config.num_steps, eps=config.epsilon, norm=config.norm,
            seed=seed, targeted=True, n_target_classes=targets, device=x.device,
        )  # fmt: skip
        found: Tensor = attack.perturb(x, y)
        return found


FAB_T = Attack("fab-t", "nearest wrong answer towards nine targets, 100 steps each", fab_targeted,
               settle=protocol(100), refuses_random=True)  # fmt: skip
