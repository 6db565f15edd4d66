"""SMART: a clean and an adversarial path, each with its own sparse mask over shared weights (arXiv 2302.03523).

The first half of a batch runs clean on the clean path, the second half is attacked and runs on the adversarial path;
each path has its own batch normalisation, the losses weigh the same, the classifier is shared and dense. There is no
official code, and the paper's text was not at hand. Interpretation: masks learn as in FLOATS, by sparse momentum with
the path's own dense gradients, clean masks after even epochs and adversarial ones after odd epochs, at layer densities
that both paths share. There are two operating points: lam up to 0.5 is the clean path, above it the adversarial one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from distcond.config.fields import setting
from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.layers.condition import Routing
from distcond.layers.layer_set import LayerSet, dual, masked
from distcond.layers.masked import MaskedConv2d
from distcond.methods.float import objective
from distcond.methods.method import Method
from distcond.models.conditional import ConditionalModel
from distcond.samplers.distributions import TwoPointOptions
from distcond.sparsity.dual_mask import DualMasks, DualMaskTraining
from distcond.sparsity.masks import layers_by_weight
from distcond.sparsity.update import SCHEDULES


@dataclass(frozen=True, kw_only=True)
class SmartOptions(Options):
    """SMART's own settings."""

    density: float = setting(0.5, "kept share of the convolutions' weights on each path; 1 = dual BN only", gt=0, le=1)
    overlap: float | None = setting(
        None, "share of a path's weights that the other has too, at the start; none = independent masks", ge=0, le=1
    )
    drop_fraction: float = setting(0.5, "share of a layer's weights an update drops at first; falls to 0", ge=0, le=1)
    schedule: Literal["linear", "cosine"] = setting("linear", "how that share falls over the run")


def layers(options: SmartOptions, shared: bool) -> LayerSet:
    """Convolutions under two masks, and dual batch normalisation."""
    return dual(shared) if options.density == 1 else masked(shared)


def sparsity(config: Config, model: ConditionalModel) -> DualMaskTraining | None:
    """The two masks of the run; None at density 1.

    Raises:
        ConfigError: an overlap that cannot be, or a network that is not made of the method's layers.
    """
    options = config.method
    assert isinstance(options, SmartOptions)
    if options.density == 1:
        return None
    layers = layers_by_weight(model, (MaskedConv2d,))
    return DualMaskTraining(
        DualMasks({name: layer for name, layer in layers.items() if isinstance(layer, MaskedConv2d)}),
        options.density,
        options.overlap,
        config.optim.momentum,
        partial(SCHEDULES[options.schedule], options.drop_fraction, 0.0),
        config.seed,
    )


def lam_grid(config: Config) -> tuple[float, ...]:
    """0 and 1, as far as `eval.lam_grid` has them: everything between is one of the two.

    Raises:
        ConfigError: it has neither.
    """
    points = tuple(lam for lam in config.eval.lam_grid if lam in (0, 1))
    if not points:
        raise ConfigError("eval.lam_grid: smart has two operating points; give 0, 1 or both")
    return points


METHOD = Method(
    name="smart",
    summary="two sparse masks over one weight, dual BN; two operating points, lam <= 0.5 clean and above robust",
    paper="SMART, arXiv 2302.03523; how the masks learn and what lam between 0 and 1 means are interpretations",
    options=SmartOptions(name="smart"),
    layers=layers,
    objective=lambda options: objective,
    sampler=TwoPointOptions(name="two_point"),
    routing=lambda options: Routing(0.5),
    lam_grid=lam_grid,
    sparsity=sparsity,
)
