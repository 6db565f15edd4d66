"""A conditional network at one operating point: at a lam, or at a blend of its two paths.

    weights:  w(t) = (1 - t) w_clean + t w_robust,  b(t) likewise, with both ends folded
    outputs:  log((1 - t) p_clean(x) + t p_robust(x))

The ends are the network at lam 0 and the network at the lam of the robust end. Blended weights are one plain network
with the same operators. Others interpolate the weights (robust soups, arXiv 2302.10164) or mix the outputs (adaptive
smoothing, arXiv 2301.12554) of two networks; here both networks are paths of one.

A pair of runs, which share no weights, has the published blends: "weights" interpolates raw weights and re-estimates
normalisation statistics ("folded" interpolates folded weights), "outputs" is as above, and "mixednuts" (arXiv
2402.02263) has fitted parameters:

    mixednuts:  log((1 - t) p_clean(x) + t softmax(M(logits_robust(x))))
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.errors import ConfigError
from distcond.layers.condition import Condition, FoldedUnit
from distcond.mixednuts import Mix, transform_logits
from distcond.models.conditional import (
    AtLambda,
    ConditionalModel,
    FoldedModel,
    condition_at_lam,
    fold_at_lam,
    folded_dtype,
)
from distcond.operating_point import BLENDS, OUTPUT_BLENDS, PAIR_BLENDS, Blend, OperatingPoint, PointLike, as_point

Logits = Callable[[Tensor], Tensor]

#: Number of surrogate networks (`surrogate_networks`) by the blend they attack.
NUM_SURROGATES: dict[Blend, int] = {"outputs": 3, "mixednuts": 4}


def network_at(
    model: ConditionalModel, point: PointLike, width: float | None = None, noise_seed: int | None = None
) -> nn.Module:
    """The network at one operating point as a plain module: x in [0, 1] (N, 3, H, W) to logits (N, K).

    Evaluation, attacks, gradient-masking checks and exporters get their networks here.

    Args:
        model: a conditional model in eval mode.
        point: an operating point, or a lam.
        width: width multiplier, one of the model's `width_mults`; None = that of the point.
        noise_seed: seed of the robust end's weight noise; None = that of the point.

    Raises:
        ConfigError: the blend does not fit the model (`check_two_paths`), or as `AtLambda`.
        ValueError: as `AtLambda`.
    """
    point = as_point(point)
    width = point.width if width is None else width
    noise_seed = point.noise_seed if noise_seed is None else noise_seed
    if not point.blend:
        return AtLambda(model, point.lam, width, noise_seed)
    check_two_paths(model, point.checked())
    if point.t in (0, 1):
        return AtLambda(model, point.lam if point.t else 0.0, width, noise_seed)
    if point.blend not in OUTPUT_BLENDS:
        return _interpolated_network(model, point, width, noise_seed)
    ends = AtLambda(model, 0.0, width), AtLambda(model, point.lam, width, noise_seed)
    if point.blend == "outputs":
        return OutputBlend(*ends, point.t)
    assert model.mix is not None
    return MixedNuts(*ends, point.t, model.mix)


def noise_to_network(model: ConditionalModel, point: OperatingPoint) -> Callable[[Tensor], nn.Module]:
    """noise (P,) -> `network_at` that point with that noise. All that does not depend on the noise is computed once.

    For a network with weight noise, at a point whose robust end has some, while the weights of `model` do not change.

    Raises:
        ConfigError, ValueError: as `network_at`.
    """
    if point.blend:
        check_two_paths(model, point.checked())
    refold = model.prepare_fold(condition_at_lam(model, point.lam, point.width), folded_dtype(model))
    if not point.blend or point.t == 1:
        return lambda noise: FoldedModel(model, refold(noise))
    clean = fold_at_lam(model, 0.0, point.width)
    if point.blend == "weights":
        return lambda noise: FoldedModel(model, interpolate_folded(clean, refold(noise), point.t))
    assert point.blend == "outputs", "a pair of runs has no weight noise"
    clean_end = FoldedModel(model, clean)
    return lambda noise: OutputBlend(clean_end, FoldedModel(model, refold(noise)), point.t)


def AtDial(
    model: ConditionalModel,
    dial: float,
    rule: str = "weights",
    lam: float = 1.0,
    width: float = 1.0,
    noise_seed: int = 0,
) -> nn.Module:
    """The network at a position of its dial, 0 = most accurate, 1 = most robust: x in [0, 1] to logits.

    Args:
        model: a conditional model in eval mode, as `distcond.load` returns it.
        dial: position in [0, 1].
        rule: what the dial blends: "weights" or "outputs" of the two paths, or "switch" for the papers' lam; for a pair
            of runs also "mixednuts" and "folded".
        lam: lam of the robust end; not used by "switch".
        width: width multiplier, one of the model's `width_mults`; 1.0 = full width.
        noise_seed: seed of the weight noise.

    Raises:
        ConfigError: a dial outside [0, 1], an unknown rule, or a blend that does not fit the model.
    """
    return network_at(model, point_on_dial(rule, dial, lam), width, noise_seed)


def point_on_dial(rule: str, dial: float, lam: float = 1.0) -> OperatingPoint:
    """The operating point at a position of the dial under a rule.

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


def _interpolated_network(model: ConditionalModel, point: OperatingPoint, width: float, noise_seed: int) -> nn.Module:
    if point.blend == "folded" or not model.two_networks:
        return WeightBlend(model, point, width, noise_seed)
    assert model.interpolate is not None
    return AtLambda(model.interpolate(model, point.t), 0.0)


def check_two_paths(model: ConditionalModel, point: OperatingPoint) -> None:
    """Check that the blend of `point` has two ends in `model`.

    Raises:
        ConfigError: the model has one path; the robust end is on the clean path; the blend is only for pairs of runs;
            or the pair lacks the fit or the training images that the blend needs.
    """
    if not model.two_paths:
        raise ConfigError(f"dial={point.blend}: this network has one path, a blend needs two; valid: switch")
    if point.blend in PAIR_BLENDS and not model.two_networks:
        valid = ", ".join(blend for blend in ("switch", *BLENDS[1:]) if blend not in PAIR_BLENDS)
        raise ConfigError(f"dial={point.blend}: blends two runs (distcond.pair), this network is one; valid: {valid}")
    if point.blend == "mixednuts" and model.mix is None:
        raise ConfigError(
            "dial=mixednuts: not fitted for this pair yet; run python -m distcond.pair STANDARD ROBUST mix=mixednuts"
        )
    if point.blend == "weights" and model.two_networks and model.interpolate is None:
        raise ConfigError("dial=weights: a pair's statistics are stored with its run; load it with distcond.load")
    if model.condition(point.lam).route is not True:
        raise ConfigError(f"dial_lam={point.lam:g}: is on the clean path; the robust end of a blend needs a larger lam")


class WeightBlend(FoldedModel):
    """A network with the interpolated folded weights and biases of both ends."""

    def __init__(self, model: ConditionalModel, point: OperatingPoint, width: float = 1.0, noise_seed: int = 0) -> None:
        clean, robust = fold_at_lam(model, 0.0, width), fold_at_lam(model, point.lam, width, noise_seed)
        super().__init__(model, interpolate_folded(clean, robust, point.t))
        self.point = point


@torch.no_grad()
def interpolate_folded(clean: Condition, robust: Condition, t: float) -> Condition:
    """The folded condition with weights (1 - t) clean + t robust."""
    assert clean.folded is not None and robust.folded is not None
    pairs = zip(clean.folded, robust.folded, strict=True)
    return robust._replace(folded=tuple(_interpolate_unit(one, other, t) for one, other in pairs))


def _interpolate_unit(clean: FoldedUnit, robust: FoldedUnit, t: float) -> FoldedUnit:
    weight = torch.lerp(clean.weight, robust.weight, t)
    if clean.bias is None and robust.bias is None:
        return FoldedUnit(weight, None)
    assert clean.bias is not None and robust.bias is not None  # both ends are folds of one unit
    return FoldedUnit(weight, torch.lerp(clean.bias, robust.bias, t))


class OutputBlend(nn.Module):
    """The log of the weighted mean probability of two networks, (N, K); costs two forward passes.

    Uses logaddexp: a small constant inside the log would cut off gradients where one network is certain. `t` is in
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
        """The robust network's logits that enter the mean, (N, K)."""
        logits: Tensor = self.robust(x)
        return logits

    def mean_logits(self, x: Tensor) -> Tensor:
        """The weighted mean of the logits, (N, K): a surrogate for attacks whose gradients do not saturate."""
        return torch.lerp(self.clean(x), self.robust(x), self.t)


class MixedNuts(OutputBlend):
    """An `OutputBlend` with transformed logits of the robust network (MixedNUTS)."""

    def __init__(self, clean: nn.Module, robust: nn.Module, t: float, mix: Mix) -> None:
        super().__init__(clean, robust, t)
        self.mix = mix

    def robust_logits(self, x: Tensor) -> Tensor:
        """M of the robust network's logits, (N, K)."""
        return transform_logits(self.robust(x), self.mix)


def surrogate_networks(network: object) -> tuple[Logits, ...]:
    """Surrogates through which an adaptive attack on `network` also runs: both ends and the mean of their logits.

    Where one end is certain, its probabilities have no gradient and the mean's gradient nearly vanishes, so robust
    accuracy is the worst over all these attacks. Surrogates also skip MixedNUTS' transformation, which flattens
    gradients; for MixedNUTS the equal-weight `OutputBlend`, through which its authors attack, is one more.
    """
    if not isinstance(network, OutputBlend):
        return ()
    surrogates = (network.clean, network.robust, network.mean_logits)
    if not isinstance(network, MixedNuts):
        return surrogates
    return (*surrogates, OutputBlend(network.clean, network.robust, 0.5))
