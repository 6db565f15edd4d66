"""FLOAT at several widths of one slimmable network (Kundu et al., arXiv 2204.00426).

Noise is drawn for the full-width weight and sliced with it. The authors published the layers but no training loop; this
is the loop of slimmable networks (Yu et al. 2019), as in OATS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distcond.config.fields import setting
from distcond.layers.layer_set import LayerSet, SlimmableWidths, slimmable_noisy_layers
from distcond.methods import float as float_method
from distcond.methods.float import FloatOptions
from distcond.methods.method import Method, check_width_mults, sum_over_widths
from distcond.samplers.distributions import TwoPointOptions


@dataclass(frozen=True, kw_only=True)
class FloatSlimOptions(FloatOptions):
    """Settings of slimmable FLOAT."""

    width_mults: tuple[float, ...] = setting((1.0, 0.5), "share of the channels at each width", gt=0, le=1)
    heads: Literal["shared", "per_width"] = setting("shared", "one classifier for all widths, or one per width")


def layers(options: FloatSlimOptions, shared: bool) -> LayerSet:
    """Noisy slimmable convolutions, slimmable classifier, a dual batch normalisation per width."""
    widths = SlimmableWidths(check_width_mults(options.width_mults), options.heads == "shared")
    return slimmable_noisy_layers(widths, float_method.amplitude(options), shared)


METHOD = Method(
    name="float_slim",
    summary="FLOAT at several widths of one network, a dual BN per width",
    paper="FLOAT slim, arXiv 2204.00426; the training loop is an interpretation: that of slimmable networks",
    options=FloatSlimOptions(name="float_slim"),
    layers=layers,
    objective=lambda options: sum_over_widths(float_method.one_width_objective(options), len(options.width_mults)),
    sampler=TwoPointOptions(name="two_point"),
    routing=float_method.routing,
    widths=lambda options: check_width_mults(options.width_mults),
)
