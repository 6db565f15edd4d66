"""FLOAT: weight noise scaled by lam (Kundu et al., arXiv 2204.00426, WACV 2023).

Per batch, the first half runs clean at lam = 0 through the clean statistics without noise, the second half is attacked
at lam = 1 through the adversarial statistics with noise; the loss is half the mean of each. A fresh draw of noise in
every forward, attack steps included. At test time lam scales the noise and lam > 0 chooses the adversarial statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distcond.config.fields import setting
from distcond.config.schema import Options
from distcond.layers.condition import Routing, Scale
from distcond.layers.layer_set import LayerSet, noisy
from distcond.layers.noisy import Amplitude
from distcond.methods.method import Method
from distcond.methods.step_context import Outcome, StepContext, count_correct
from distcond.samplers.distributions import TwoPointOptions


@dataclass(frozen=True, kw_only=True)
class FloatOptions(Options):
    """FLOAT's own settings."""

    alpha: float = setting(0.25, "where the learned noise amplitude of every layer starts (authors' code: 0.25)", ge=0)
    threshold: float = setting(
        0.0,
        "lam above which the adversarial statistics serve; 0.5 = the authors' earlier two-range mapping",
        ge=0,
        le=1,
    )
    shared_alpha: bool = setting(False, "one amplitude for all layers in place of one each")
    scale: Scale = setting(
        "ranges",
        "noise at lam: anew from 0 to 1 on each side of the threshold (ranges), as lam says (linear), or all of it "
        "above the threshold and none below (constant)",
    )


def layers(options: FloatOptions, shared: bool) -> LayerSet:
    """Noisy convolutions and dual batch normalisation."""
    return noisy(amplitude(options), shared)


def amplitude(options: FloatOptions) -> Amplitude:
    """Where the amplitude of every layer starts, or a fresh one for all layers of a network."""
    return nn.Parameter(torch.tensor(options.alpha)) if options.shared_alpha else options.alpha


def routing(options: FloatOptions) -> Routing:
    """The statistics and the noise of each lam."""
    return Routing(options.threshold, options.scale)


def objective(passes: StepContext, x: Tensor, y: Tensor, width: int = 0) -> Outcome:
    """Cross-entropy of the clean rows at lam = 0 and of the attacked rows at their lam, a mean over all rows.

    With the method's own sampler, half the rows at 0 and half at 1, this is 0.5 L_clean + 0.5 L_adv.
    """
    clean, adv = passes.split()
    loss, seen_clean, seen_adv = x.new_zeros(()), None, None
    if clean.stop > clean.start:
        seen_clean = passes.logits(x[clean.rows], clean, "clean", width), y[clean.rows]
        loss = loss + passes.cross_entropy(*seen_clean)
    if adv.stop > adv.start:
        moved = passes.adversarial(x[adv.rows], y[adv.rows], adv, width)
        seen_adv = passes.logits(moved, adv, "adversarial", width), y[adv.rows]
        loss = loss + passes.cross_entropy(*seen_adv)
    return Outcome(loss, count_correct(seen_clean, seen_adv))


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
