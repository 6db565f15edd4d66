"""The network of a plan, and a network with weight noise as its attacker and as its users meet it.

"fixed": one draw, the same for both. "fresh": every forward pass of the attacker has a draw of its own, and the images
are judged at a draw the attacker never saw. "eot": so too, but the attacker sees the mean of the logits over several
fresh draws (expectation over transformation, Athalye et al. 2018), and through it the mean gradient.

Every draw is a function of what it is for, so a block has the same outcome wherever and whenever it is counted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from distcond.errors import ConfigError
from distcond.evaluation.plan import EvalPlan
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import Logits, network_at, noise_to_network, surrogate_networks
from distcond.operating_point import OperatingPoint
from distcond.runs.interpolation import Interpolation
from distcond.runs.load_run import load
from distcond.seeding import key


def network_of(plan: EvalPlan, device: torch.device | str = "cpu") -> ConditionalModel:
    """The plan's network, in eval mode.

    Raises:
        ConfigError: as `load`, or MixedNUTS was fitted again since the plan was made.
    """
    model = load(plan.run_path, plan.spec.checkpoint, device, plan.config.data)
    if any(point.blend == "mixednuts" for point in plan.points) and tuple(model.mix or ()) != plan.mix:
        raise ConfigError(f"{plan.run_path}: mixednuts was fitted again meanwhile; start again for the new fit")
    if isinstance(model.interpolate, Interpolation):
        model.interpolate.keep_path = plan.keep_path
    return model


class QueryCounter:
    """`x -> logits` that counts the images it is asked about; `random` where every answer has a draw of its own.

    `draws`: over how many answers of a random network an attack ranks that ranks by a mean. `is_target`: whether it is
    the very network whose answers count. `break_only`: see `distcond.attacks.attack.Logits`.
    """

    def __init__(
        self,
        logits: Callable[[Tensor], Tensor],
        passes: int = 1,
        random: bool = False,
        draws: int = 10,
        is_target: bool = False,
    ) -> None:
        self.logits, self.passes, self.random, self.draws, self.rows = logits, passes, random, draws, 0
        self.is_target, self.break_only = is_target, False

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        self.rows += self.passes * len(x)
        return self.logits(x)


class RandomizedModel:
    """`x -> logits`, each call with the next of a named series of draws; `which` of its stand-ins, if not itself.

    The noise is drawn on the model's device, so that a GPU does not wait for the host: a series is reproducible on one
    kind of device. Fixed noise is the same on every device.
    """

    def __init__(self, model: ConditionalModel, point: OperatingPoint, which: int | None, *name: object) -> None:
        self.model, self.point, self.which, self.name, self.calls = model, point, which, name, 0
        self.network_with = noise_to_network(model, point)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (N, K) at a draw of this call's own."""
        self.calls += 1
        noise = self.model.draw_noise(key(self.point.noise_seed, *self.name, self.calls))
        assert noise is not None, "only a network with noise is random"
        return _chosen(self.network_with(noise), self.which)(x)


def target_model(model: ConditionalModel, point: OperatingPoint, noise: str, block: int) -> QueryCounter:
    """The network whose answers count. With "fresh" and "eot" noise: one draw per block, unknown to the attacker."""
    seed = point.noise_seed if noise == "fixed" else key(point.noise_seed, "judge", block)
    return QueryCounter(network_at(model, point, noise_seed=seed), point.forwards, is_target=True)


def attacked_model(
    model: ConditionalModel,
    point: OperatingPoint,
    noise: str,
    draws: int,
    name: tuple[object, ...],
    which: int | None = None,
) -> QueryCounter:
    """The network that the attacker asks, or `which` of its stand-ins.

    `name` names its series of draws, of which "eot" averages `draws`.
    """
    passes = 1 if which in (0, 1) else point.forwards
    if noise == "fixed" or not point.robust or not model.noise_size:
        return QueryCounter(_chosen(network_at(model, point), which), passes, is_target=which is None)
    drawn = RandomizedModel(model, point, which, "attacker", *name)
    if noise == "fresh":
        return QueryCounter(drawn, passes, random=True)
    return QueryCounter(lambda x: torch.stack([drawn(x) for _ in range(draws)]).mean(0), draws * passes, random=True)


def _chosen(network: nn.Module, which: int | None) -> Logits:
    return network if which is None else surrogate_networks(network)[which]
