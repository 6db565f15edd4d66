"""FLOAT: weight noise scaled by lam (Kundu et al., arXiv 2204.00426, WACV 2023).

The first half of a batch runs clean at lam = 0, with the clean statistics and without noise. The second half is
attacked at lam = 1, with the adversarial statistics and noise. The loss is the mean of both halves' losses. Every
forward pass draws new noise, attack steps included. At test time lam scales the noise, and lam > 0 selects the
adversarial statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from distcond.config.fields import setting
from distcond.config.schema import Options
from distcond.errors import ConfigError
from distcond.layers.condition import Routing, Scale
from distcond.layers.layer_set import LayerSet, noisy_layers
from distcond.layers.noisy import Amplitude, Granularity, OwnAmplitude
from distcond.methods.method import Method, Objective
from distcond.methods.step_context import Outcome, StepContext, count_correct
from distcond.samplers.distributions import TwoPointOptions


@dataclass(frozen=True, kw_only=True)
class FloatOptions(Options):
    """Settings of FLOAT."""

    alpha: float = setting(0.25, "initial value of every layer's learned noise amplitude (authors' code: 0.25)", ge=0)
    threshold: float = setting(
        0.0,
        "lam above which the adversarial statistics are used; 0.5 = the authors' earlier two-range mapping",
        ge=0,
        le=1,
    )
    alpha_by: Granularity = setting("layer", "one amplitude per layer, output channel or weight")
    shared_alpha: bool = setting(False, "one amplitude for all layers instead of one per layer")
    loss: Literal["halves", "authors"] = setting(
        "halves",
        "halves = half the batch clean, half attacked (the paper); authors = all rows clean, the second half on the "
        "adversarial statistics and attacked as well, with half the weight (the authors' code)",
    )
    scale: Scale = setting(
        "ranges",
        "noise amplitude: 0 to 1 on each side of the threshold (ranges), lam (linear), or 1 above the threshold and 0 "
        "below (constant)",
    )


def layers(options: FloatOptions, shared: bool) -> LayerSet:
    """Noisy convolutions and dual batch normalisation."""
    return noisy_layers(amplitude(options), shared)


def amplitude(options: FloatOptions) -> Amplitude:
    """The initial amplitude of every layer, or a new parameter for all layers of a network.

    Raises:
        ConfigError: one amplitude for all layers, and one per channel or weight.
    """
    if options.shared_alpha and options.alpha_by != "layer":
        raise ConfigError(
            f"method.alpha_by={options.alpha_by}: method.shared_alpha=true is one amplitude for all; set one of them"
        )
    own = OwnAmplitude(options.alpha, options.alpha_by)
    return nn.Parameter(torch.tensor(options.alpha)) if options.shared_alpha else own


def routing(options: FloatOptions) -> Routing:
    """Maps lam to the statistics and the noise amplitude."""
    return Routing(options.threshold, options.scale)


def objective(step: StepContext, x: Tensor, y: Tensor, width: int = 0) -> Outcome:
    """Cross-entropy of the clean rows at lam = 0 and of the attacked rows at their lam, averaged over all rows.

    With the default sampler, half the rows at 0 and half at 1, this is 0.5 L_clean + 0.5 L_adv.
    """
    clean, adv = step.split_by_lam()
    loss, clean_pass, adv_pass = x.new_zeros(()), None, None
    if clean.stop > clean.start:
        clean_pass = step.logits(x[clean.rows], clean, "clean", width), y[clean.rows]
        loss = loss + step.cross_entropy(*clean_pass)
    if adv.stop > adv.start:
        x_adv = step.make_adversarial(x[adv.rows], y[adv.rows], adv, width)
        adv_pass = step.logits(x_adv, adv, "adversarial", width), y[adv.rows]
        loss = loss + step.cross_entropy(*adv_pass)
    return Outcome(loss, count_correct(clean_pass, adv_pass))


def authors_objective(step: StepContext, x: Tensor, y: Tensor, width: int = 0) -> Outcome:
    """The loss of the authors' code (FLOAT_v2), with their order of the passes: clean, attack, adversarial.

    All rows run clean and without noise, those at lam > 0 with the adversarial statistics. The attacked rows weigh half
    of what they do in `objective`: mean over the batch of 0.5 L_clean, and of 0.5 L_adv on the attacked rows.
    """
    _, adv = step.split_by_lam()
    logits = step.logits_without_noise(x, width)
    loss, adv_pass = 0.5 * step.cross_entropy(logits, y), None
    if adv.stop > adv.start:
        x_adv = step.make_adversarial(x[adv.rows], y[adv.rows], adv, width)
        adv_pass = step.logits(x_adv, adv, "adversarial", width), y[adv.rows]
        loss = loss + 0.5 * step.cross_entropy(*adv_pass)
    return Outcome(loss, count_correct((logits, y), adv_pass))


def one_width_objective(options: FloatOptions) -> Callable[..., Outcome]:
    """The objective of one width, (step, x, y, width)."""
    return authors_objective if options.loss == "authors" else objective


def make_objective(options: FloatOptions) -> Objective:
    """The objective that the options choose."""
    return one_width_objective(options)


METHOD = Method(
    name="float",
    summary="weight noise scaled by lam, dual BN; half the batch clean, half attacked",
    paper="FLOAT, arXiv 2204.00426 section 3",
    options=FloatOptions(name="float"),
    layers=layers,
    objective=make_objective,
    sampler=TwoPointOptions(name="two_point"),
    routing=routing,
)
