"""Flying Bird: adversarial training of a sparse network whose mask moves while it trains (Chen et al., Sparsity Winning
Twice, arXiv 2202.09844, ICLR 2022, section 3.3).

Convolutions and classifier are masked from the start. Every `update_every` steps each layer drops its smallest weights
and grows as many: the density of every layer stays. Growth is by gradient, as the paper's text has it; the authors'
scripts grow at random (`growth=random`). The first layer densities are ERK; the authors' code has IGQ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from distcond.config.schema import Config, Options
from distcond.config.setting import setting
from distcond.methods import pgd_at
from distcond.methods.method import Method
from distcond.models.conditional import ConditionalModel
from distcond.samplers.fixed import FixedOptions
from distcond.sparsity.distribution import DISTRIBUTIONS
from distcond.sparsity.drop_and_grow import DropAndGrow, Pace
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import layers_by_weight
from distcond.sparsity.schedule import SCHEDULES
from distcond.sparsity.trend import Trend


@dataclass(frozen=True, kw_only=True)
class FlyingBirdOptions(Options):
    """Flying Bird's own settings."""

    density: float = setting(0.2, "kept share of convolutions and classifier; 1 = adversarial training", gt=0, le=1)
    distribution: Literal["erk", "igq", "uniform"] = setting(
        "erk", "how density is shared out over the layers (authors' code: igq)"
    )
    growth: Literal["gradient", "random"] = setting(
        "gradient", "grow where the gradient is largest, or anywhere (authors' scripts: random)"
    )
    update_every: int = setting(900, "steps between updates of the mask", ge=1)
    update_every_late: int = setting(
        0, "the same in the second half of the run; 0 = no change (authors' scripts: 1200)", ge=0
    )
    drop_fraction: float = setting(0.5, "share of a layer's weights an update drops at first", ge=0, le=1)
    drop_fraction_end: float = setting(0.005, "the same at the end of the run", ge=0, le=1)
    schedule: Literal["cosine", "linear"] = setting("cosine", "how that share falls over the run")


def make_sparsity(config: Config, model: ConditionalModel, trend: Trend | None = None) -> DropAndGrow:
    """The moving mask of a run.

    Raises:
        ConfigError: a network without convolutions or linear layers.
    """
    options = config.method
    assert isinstance(options, FlyingBirdOptions)
    fraction = partial(SCHEDULES[options.schedule], options.drop_fraction, options.drop_fraction_end)
    pace = Pace(options.update_every, options.update_every_late or options.update_every, fraction)
    masked = MaskedWeights(layers_by_weight(model, (nn.Conv2d, nn.Linear)))
    distribution = DISTRIBUTIONS[options.distribution]
    return DropAndGrow(masked, options.density, distribution, pace, options.growth, trend, config.seed)


def sparsity(config: Config, model: ConditionalModel) -> DropAndGrow | None:
    """The moving mask of a run; None at density 1."""
    assert isinstance(config.method, FlyingBirdOptions)
    return None if config.method.density == 1 else make_sparsity(config, model)


METHOD = Method(
    name="flying_bird",
    summary="sparse adversarial training with a mask that moves: each layer drops and grows as many weights",
    paper="Flying Bird, arXiv 2202.09844 section 3.3; first layer densities are an interpretation",
    options=FlyingBirdOptions(name="flying_bird"),
    layers=pgd_at.layers,
    objective=lambda options: pgd_at.objective,
    sampler=FixedOptions(name="fixed"),
    lam_grid=pgd_at.lam_grid,
    sparsity=sparsity,
)
