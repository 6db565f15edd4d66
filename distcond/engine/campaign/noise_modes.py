"""A network with weight noise as its attacker and as its users meet it.

"fixed": one draw, the same for both. "fresh": every forward pass of the attacker has a draw of its own, and the images
are judged at a draw the attacker never saw. "eot": so too, but the attacker sees the mean of the logits over several
fresh draws (expectation over transformation, Athalye et al. 2018), and through it the mean gradient.

Every draw is a function of what it is for, so a block has the same outcome wherever and whenever it is counted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distcond.condition import AtLambda
from distcond.models.conditional import ConditionalModel
from distcond.seeding import key


class Counted:
    """`x -> logits` that counts the images it is asked about; `random` where every answer has a draw of its own."""

    def __init__(self, logits: Callable[[Tensor], Tensor], passes: int = 1, random: bool = False) -> None:
        self.logits, self.passes, self.random, self.rows = logits, passes, random, 0

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        self.rows += self.passes * len(x)
        return self.logits(x)


class Drawn:
    """`x -> logits`, each call with the next of a named series of draws."""

    def __init__(self, model: ConditionalModel, lam: float, width: int, *name: object) -> None:
        self.model, self.lam, self.name, self.calls = model, lam, name, 0
        self.width_mult = model.width_mults[width]

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (N, K) at a draw of this call's own."""
        self.calls += 1
        logits: Tensor = AtLambda(self.model, self.lam, self.width_mult, key(*self.name, self.calls))(x)
        return logits


def judge(model: ConditionalModel, lam: float, width: int, noise: str, noise_seed: int, block: int) -> Counted:
    """The network whose answers count. With "fresh" and "eot" noise: one draw per block, unknown to the attacker."""
    seed = noise_seed if noise == "fixed" else key(noise_seed, "judge", block)
    return Counted(AtLambda(model, lam, model.width_mults[width], seed))


def attacker(
    model: ConditionalModel, lam: float, width: int, noise: str, noise_seed: int, draws: int, name: tuple[object, ...]
) -> Counted:
    """The network that the attacker asks; `name` names its series of draws, of which "eot" averages `draws`."""
    if noise == "fixed" or lam == 0 or not model.noise_size:
        return Counted(AtLambda(model, lam, model.width_mults[width], noise_seed))
    drawn = Drawn(model, lam, width, noise_seed, "attacker", *name)
    if noise == "fresh":
        return Counted(drawn, random=True)
    return Counted(lambda x: torch.stack([drawn(x) for _ in range(draws)]).mean(0), draws, random=True)
