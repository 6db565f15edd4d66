"""FLOAT: weight noise scaled by lam (Kundu et al., arXiv 2204.00426, WACV 2023).

The first half of a batch runs clean at lam = 0, with the clean statistics and without noise. The second half is
attacked at lam = 1, with the adversarial statistics and noise. The loss is the mean of both halves' losses. Every
forward pass draws new noise, attack steps included. At test time lam scales the noise, and lam > 0 selects the
adversarial statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distcond.config.fields import setting
from distcond.config.schema import Options
from distcond.layers.condition import Routing, Scale
from distcond.layers.layer_set import LayerSet, noisy_layers
from distcond.layers.noisy import Amplitude
from distcond.methods.method import Method
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
    shared_alpha: bool = setting(False, "one amplitude for all layers instead of one per layer")
    scale: Scale = setting(
        "ranges",
        "noise amplitude: 0 to 1 on each side of the threshold (ranges), lam (linear), or 1 above the threshold and 0 "
        "below (constant)",
    )


def layers(options: FloatOptions, shared: bool) -> LayerSet:
    """Noisy convolutions and dual batch normalisation."""
    return noisy_layers(amplitude(options), shared)


def amplitude(options: FloatOptions) -> Amplitude:
    """The initial amplitude of every layer, or a new parameter for all layers of a network."""
    return nn.Parameter(torch.tensor(options.alpha)) if options.shared_alpha else options.alpha


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


METHOD = Method(
    name="float",
    summary="weight noise scaled by lam, dual BN; half the batch clean, half attacked",
    paper="FLOAT, arXiv 2204.00426 section 3",
    options=FloatOptions(name="float"),
    layers=layers,
    objective=lambda options: objective,
    sampler=TwoPointOptions(name="two_point"),
    routing=routing,
)
