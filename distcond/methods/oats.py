"""OATS: OAT at several widths of one slimmable network (Wang et al., arXiv 2010.11828, NeurIPS 2020).

The authors published the layers but no training loop. This is the loop of slimmable networks (Yu et al. 2019): every
step sums the losses of all widths, widest first. Each width has its own attack; lam per row is the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distcond.config.fields import setting
from distcond.layers.layer_set import LayerSet, SlimmableWidths, slimmable_film_layers
from distcond.methods import oat
from distcond.methods.method import Method, Objective, check_width_mults, sum_over_widths
from distcond.methods.oat import OatOptions, encode, lam_grid
from distcond.samplers.distributions import FixedShareOptions


@dataclass(frozen=True, kw_only=True)
class OatsOptions(OatOptions):
    """Settings of OATS."""

    width_mults: tuple[float, ...] = setting((1.0, 0.75, 0.5), "share of the channels at each width", gt=0, le=1)
    heads: Literal["shared", "per_width"] = setting(
        "shared", "one classifier for all widths, or one per width (SOLAR, arXiv 2509.16833)"
    )
    film_slices: Literal["separate", "concatenated"] = setting(
        "separate", "how FiLM is sliced: scale and shift separately, or concatenated as in the authors' code"
    )


def layers(options: OatsOptions, shared: bool) -> LayerSet:
    """Slimmable convolutions, classifier and FiLM; a dual batch normalisation per width."""
    widths = SlimmableWidths(check_width_mults(options.width_mults), options.heads == "shared")
    concatenated = options.film_slices == "concatenated"
    return slimmable_film_layers(
        widths, encode(options).dim, options.identity_start, concatenated, shared, options.dual_bn
    )


def objective(options: OatsOptions) -> Objective:
    """OAT's loss, summed over the widths."""
    return sum_over_widths(oat.one_width_objective(options), len(options.width_mults))


METHOD = Method(
    name="oats",
    summary="OAT at several widths of one network, a dual BN per width",
    paper="OATS, arXiv 2010.11828; the training loop is an interpretation: that of slimmable networks (Yu et al. 2019)",
    options=OatsOptions(name="oats"),
    layers=layers,
    objective=objective,
    sampler=FixedShareOptions(name="fixed_share"),
    default_grid=OatsOptions.lam_choices,
    encode=encode,
    widths=lambda options: check_width_mults(options.width_mults),
    lam_grid=lam_grid,
)
