"""Square (Andriushchenko et al. 2020), a random search that needs no gradient, by pyautoattack."""

from __future__ import annotations

from torch import Tensor

from distcond.attacks.attack import Attack, Logits, protocol
from distcond.attacks.library import drawing, part
from distcond.config.schema import AttackConfig


def square(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int, queries_per_step: int = 1) -> Tensor:
    """See `attack.Run`. `num_steps` counts queries, or in a cascade so many queries each."""
    attack = part("square", "SquareAttack")(
        logits, n_queries=config.num_steps * queries_per_step, eps=config.epsilon, norm=config.norm, p_init=0.8,
        n_restarts=config.restarts, seed=seed, resc_schedule=False, device=x.device,
    )  # fmt: skip
    with drawing(seed, x.device):
        found: Tensor = attack.perturb(x, y)
    return found


SQUARE = Attack("square", "random search without gradients, 5,000 queries", square, settle=protocol(5000))
