"""SMART: a clean and an adversarial path, each with its own sparse mask over shared weights (arXiv 2302.03523).

The first half of a batch runs clean on the clean path; the second half is attacked and runs on the adversarial path.
Each path has its own batch normalisation, both losses have the same weight, and the classifier is shared and dense.
There is no official code, and the text of the paper was not available. Interpretation: masks learn as in FLOATS, by
sparse momentum with the path's own dense gradients. Clean masks are updated after even epochs, adversarial masks after
odd epochs, and both have the same layer densities. There are two operating points: the clean path for lam up to 0.5,
the adversarial path above.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from distcond.config.fields import setting
from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.layers.condition import Routing
from distcond.layers.layer_set import LayerSet, dual_bn_layers, masked_layers
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
    """Settings of SMART."""

    density: float = setting(0.5, "kept share of the convolutions' weights per path; 1 = dual BN only", gt=0, le=1)
    overlap: float | None = setting(
        None, "initial share of a path's kept weights that the other path keeps; none = independent masks", ge=0, le=1
    )
    drop_fraction: float = setting(0.5, "share of each layer's weights that updates drop; decays to 0", ge=0, le=1)
    schedule: Literal["linear", "cosine"] = setting("linear", "decay of drop_fraction over the run")


def layers(options: SmartOptions, shared: bool) -> LayerSet:
    """Convolutions under two masks, and dual batch normalisation."""
    return dual_bn_layers(shared) if options.density == 1 else masked_layers(shared)


def sparsity(config: Config, model: ConditionalModel) -> DualMaskTraining | None:
    """The two masks of the run; None at density 1.

    Raises:
        ConfigError: an impossible overlap, or a network without the method's layers.
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
    """The lams 0 and 1 of `eval.lam_grid`; any other lam equals one of them.

    Raises:
        ConfigError: the grid has neither.
    """
    points = tuple(lam for lam in config.eval.lam_grid if lam in (0, 1))
    if not points:
        raise ConfigError("eval.lam_grid: smart has two operating points; give 0, 1 or both")
    return points


METHOD = Method(
    name="smart",
    summary="two sparse masks over one weight, dual BN; two operating points: clean for lam <= 0.5, else robust",
    paper="SMART, arXiv 2302.03523; mask learning and the meaning of lam between 0 and 1 are interpretations",
    options=SmartOptions(name="smart"),
    layers=layers,
    objective=lambda options: objective,
    sampler=TwoPointOptions(name="two_point"),
    routing=lambda options: Routing(0.5),
    lam_grid=lam_grid,
    sparsity=sparsity,
)
