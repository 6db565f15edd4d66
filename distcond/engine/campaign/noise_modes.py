"""A network with weight noise as its attacker and as its users meet it.

"fixed": one draw, the same for both. "fresh": every forward pass of the attacker has a draw of its own, and the images
are judged at a draw the attacker never saw. "eot": so too, but the attacker sees the mean of the logits over several
fresh draws (expectation over transformation, Athalye et al. 2018), and through it the mean gradient.

Every draw is a function of what it is for, so a block has the same outcome wherever and whenever it is counted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from distcond.models.conditional import ConditionalModel
from distcond.models.dial import Logits, network_at, surrogate_networks
from distcond.operating_point import PointLike, as_point
from distcond.seeding import key


class Counted:
    """`x -> logits` that counts the images it is asked about; `random` where every answer has a draw of its own.

    `draws`: over how many answers of a random network an attack ranks that ranks by a mean.
    """

    def __init__(
        self, logits: Callable[[Tensor], Tensor], passes: int = 1, random: bool = False, draws: int = 10
    ) -> None:
        self.logits, self.passes, self.random, self.draws, self.rows = logits, passes, random, draws, 0

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        self.rows += self.passes * len(x)
        return self.logits(x)


class Drawn:
    """`x -> logits`, each call with the next of a named series of draws; `which` of its stand-ins, if not itself."""

    def __init__(self, model: ConditionalModel, place: PointLike, width: int, which: int | None, *name: object) -> None:
        self.model, self.place, self.width_mult, self.name, self.calls = model, place, model.width_mults[width], name, 0
        self.which = which

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (N, K) at a draw of this call's own."""
        self.calls += 1
        network = network_at(self.model, self.place, self.width_mult, key(*self.name, self.calls))
        return _chosen(network, self.which)(x)


def judge(model: ConditionalModel, place: PointLike, width: int, noise: str, noise_seed: int, block: int) -> Counted:
    """The network whose answers count. With "fresh" and "eot" noise: one draw per block, unknown to the attacker."""
    seed = noise_seed if noise == "fixed" else key(noise_seed, "judge", block)
    return Counted(network_at(model, place, model.width_mults[width], seed), as_point(place).forwards)


def attacker(
    model: ConditionalModel,
    place: PointLike,
    width: int,
    noise: str,
    noise_seed: int,
    draws: int,
    name: tuple[object, ...],
    which: int | None = None,
) -> Counted:
    """The network that the attacker asks, or `which` of its stand-ins.

    `name` names its series of draws, of which "eot" averages `draws`.
    """
    point = as_point(place)
    passes = 1 if which in (0, 1) else point.forwards
    if noise == "fixed" or not point.robust or not model.noise_size:
        return Counted(_chosen(network_at(model, point, model.width_mults[width], noise_seed), which), passes)
    drawn = Drawn(model, point, width, which, noise_seed, "attacker", *name)
    if noise == "fresh":
        return Counted(drawn, passes, random=True)
    return Counted(lambda x: torch.stack([drawn(x) for _ in range(draws)]).mean(0), draws * passes, random=True)


def _chosen(network: nn.Module, which: int | None) -> Logits:
    return network if which is None else surrogate_networks(network)[which]
