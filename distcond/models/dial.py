"""A network held at one operating point of its dial: at a lam, or at a blend of its two paths.

    weights:  w(t) = (1 - t) w_clean + t w_robust,  b(t) likewise, of the two ends with everything folded
    outputs:  log((1 - t) p_clean(x) + t p_robust(x))

The ends are the network at lam 0 and the network at the lam of the robust end. Blended weights are one plain network of
the same operators. Interpolating weights and mixing outputs of two networks are known (robust soups, arXiv 2302.10164;
adaptive smoothing, arXiv 2301.12554); here both networks are the paths of one. A pair of runs, which share nothing, is
blended in the ways known: raw weights with normalisation statistics estimated anew for "weights" (what is done to
others' paths is "folded" there), the mean of probabilities, and MixedNUTS' (arXiv 2402.02263) with fitted numbers:

    mixednuts:  log((1 - t) p_clean(x) + t softmax(M(logits_robust(x))))
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.errors import ConfigError
from distcond.layers.condition import AtLambda, Condition, Conditional, FoldedModel, FoldedUnit, fold_at_lam
from distcond.mixednuts import Mix, transform_logits
from distcond.operating_point import BLENDS, OUTPUT_BLENDS, PAIR_BLENDS, Blend, OperatingPoint, PointLike, as_point

Logits = Callable[[Tensor], Tensor]


def network_at(
    model: Conditional, place: PointLike, width: float | None = None, noise_seed: int | None = None
) -> nn.Module:
    """The network at one operating point: a plain module, x in [0, 1] (N, 3, H, W) to logits (N, K).

    The one door for evaluations, attacks, the sentinel and exporters.

    Args:
        model: a conditional model in eval mode.
        place: an operating point, or a lam.
        width: multiplier of the width, one of the model's `width_mults`; unset = that of the point.
        noise_seed: which draw of the weight noise the robust end carries; unset = that of the point.

    Raises:
        ConfigError: a blend of a model with one path, or of two points of one path; one of pairs alone; one of a pair
            that is not fitted, or whose training images are not there.
        ValueError: as `AtLambda`.
    """
    point = as_point(place)
    width = point.width if width is None else width
    noise_seed = point.noise_seed if noise_seed is None else noise_seed
    if not point.blend:
        return AtLambda(model, point.lam, width, noise_seed)
    check_two_paths(model, point.checked())
    if point.t in (0, 1):
        return AtLambda(model, point.lam if point.t else 0.0, width, noise_seed)
    if point.blend not in OUTPUT_BLENDS:
        return _between(model, point, width, noise_seed)
    ends = AtLambda(model, 0.0, width), AtLambda(model, point.lam, width, noise_seed)
    if point.blend == "outputs":
        return OutputBlend(*ends, point.t)
    assert model.mix is not None
    return MixedNuts(*ends, point.t, model.mix)


def _between(model: Conditional, point: OperatingPoint, width: float, noise_seed: int) -> nn.Module:
    """The one network of weights between the ends."""
    if point.blend == "folded" or not model.two_networks:
        return WeightBlend(model, point, width, noise_seed)
    assert model.interpolate is not None
    return AtLambda(model.interpolate(model, point.t), 0.0)


def check_two_paths(model: Conditional, point: OperatingPoint) -> None:
    """Refuse a blend that has no two ends.

    Raises:
        ConfigError: the model has one path, or the robust end lies on the clean one; or the blend is one of pairs of
            runs, which this is not or not ready for.
    """
    if not model.two_paths:
        raise ConfigError(f"dial={point.blend}: this network has one path, a blend needs two; valid: switch")
    if point.blend in PAIR_BLENDS and not model.two_networks:
        valid = ", ".join(blend for blend in ("switch", *BLENDS[1:]) if blend not in PAIR_BLENDS)
        raise ConfigError(f"dial={point.blend}: blends two runs (distcond.pair), this network is one; valid: {valid}")
    if point.blend == "mixednuts" and model.mix is None:
        raise ConfigError(
            "dial=mixednuts: not fitted for this pair yet; python -m distcond.pair STANDARD ROBUST mix=mixednuts does"
        )
    if point.blend == "weights" and model.two_networks and model.interpolate is None:
        raise ConfigError("dial=weights: the statistics of a pair lie with its run; take the network by distcond.load")
    if model.condition(point.lam).route is not True:
        raise ConfigError(
            f"dial_lam={point.lam:g}: lies on the clean path; the robust end of a blend needs a larger lam"
        )


class WeightBlend(FoldedModel):
    """The folded weights and biases of both ends, interpolated."""

    def __init__(self, model: Conditional, point: OperatingPoint, width: float = 1.0, noise_seed: int = 0) -> None:
        clean, robust = fold_at_lam(model, 0.0, width), fold_at_lam(model, point.lam, width, noise_seed)
        super().__init__(model, interpolate_folded(clean, robust, point.t))
        self.point = point


@torch.no_grad()
def interpolate_folded(clean: Condition, robust: Condition, t: float) -> Condition:
    """The folded condition a share `t` of the way from one end to the other."""
    assert clean.folded is not None and robust.folded is not None
    pairs = zip(clean.folded, robust.folded, strict=True)
    return robust._replace(folded=tuple(_unit_between(one, other, t) for one, other in pairs))


def _unit_between(clean: FoldedUnit, robust: FoldedUnit, t: float) -> FoldedUnit:
    weight = torch.lerp(clean.weight, robust.weight, t)
    if clean.bias is None and robust.bias is None:
        return FoldedUnit(weight, None)
    assert clean.bias is not None and robust.bias is not None  # both ends are folds of one unit
    return FoldedUnit(weight, torch.lerp(clean.bias, robust.bias, t))


class OutputBlend(nn.Module):
    """The log of the mean probability of two networks, (N, K): two forwards.

    By logaddexp: a small constant inside the log would cut gradients off where one network is sure. `t` lies inside
    (0, 1).
    """

    def __init__(self, clean: nn.Module, robust: nn.Module, t: float) -> None:
        super().__init__()
        self.clean, self.robust, self.t = clean, robust, t
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        clean, robust = F.log_softmax(self.clean(x), 1), F.log_softmax(self.robust_logits(x), 1)
        return torch.logaddexp(clean + math.log1p(-self.t), robust + math.log(self.t))

    def robust_logits(self, x: Tensor) -> Tensor:
        """What the robust network's share is made of, (N, K)."""
        logits: Tensor = self.robust(x)
        return logits

    def mean_logits(self, x: Tensor) -> Tensor:
        """The mean of the logits instead, (N, K): another network to attack, whose gradients do not saturate."""
        return torch.lerp(self.clean(x), self.robust(x), self.t)


class MixedNuts(OutputBlend):
    """The same of probabilities of which the robust network's are those of its transformed logits."""

    def __init__(self, clean: nn.Module, robust: nn.Module, t: float, mix: Mix) -> None:
        super().__init__(clean, robust, t)
        self.mix = mix

    def robust_logits(self, x: Tensor) -> Tensor:
        """M of the robust network's logits, (N, K)."""
        return transform_logits(self.robust(x), self.mix)


#: How many networks an attacker tries besides one that averages outputs, by what it averages.
NUM_SURROGATES: dict[Blend, int] = {"outputs": 3, "mixednuts": 4}


def surrogate_networks(network: object) -> tuple[Logits, ...]:
    """Networks that an attacker of `network` tries besides: of averaged outputs both ends and the mean of their logits.

    Where one end is sure its probabilities have no gradient, and those of the mean hardly any; the worst over all of
    these attacks counts. They pass by a transformation of the robust end's logits, which flattens gradients, too; and
    of such a mix so does the mean of probabilities with equal shares, through which its authors attack.
    """
    if not isinstance(network, OutputBlend):
        return ()
    usual = (network.clean, network.robust, network.mean_logits)
    if not isinstance(network, MixedNuts):
        return usual
    return (*usual, OutputBlend(network.clean, network.robust, 0.5))


def AtDial(
    model: Conditional, dial: float, rule: str = "weights", lam: float = 1.0, width: float = 1.0, noise_seed: int = 0
) -> nn.Module:
    """The network at a position of its dial, 0 = most accurate, 1 = most robust: x in [0, 1] to logits.

    Args:
        model: a conditional model in eval mode, as `distcond.load` gives it.
        dial: in [0, 1].
        rule: what the dial moves: "weights" or "outputs" of the two paths, or "switch", the papers' lam; of a pair of
            runs also "mixednuts" and "folded".
        lam: of the robust end; not used by "switch".
        width: multiplier of the width, one of the model's `width_mults`; 1.0 = full width.
        noise_seed: which draw of the weight noise to carry.

    Raises:
        ConfigError: a dial outside [0, 1], an unknown rule, or a blend of a model with one path.
    """
    return network_at(model, point_on_dial(rule, dial, lam), width, noise_seed)


def point_on_dial(rule: str, dial: float, lam: float = 1.0) -> OperatingPoint:
    """The operating point that a position of the dial means under a rule.

    Raises:
        ConfigError: a dial outside [0, 1] or an unknown rule.
    """
    if not 0 <= dial <= 1:
        raise ConfigError(f"dial={dial:g}: must be in [0, 1]")
    if rule == "switch":
        return OperatingPoint(dial)
    for blend in BLENDS[1:]:
        if rule == blend:
            return OperatingPoint(lam, blend, dial).checked()
    raise ConfigError(f"dial rule {rule!r}: valid: {', '.join(('switch', *BLENDS[1:]))}")
