"""Flying Bird and Flying Bird+: adversarial training of a sparse network whose mask moves while it trains (Chen et al.,
Sparsity Winning Twice, arXiv 2202.09844, ICLR 2022, section 3.3).

Convolutions and classifier are masked from the start (ERK; authors' code: IGQ). Every `update_every` steps each layer
drops its smallest weights and grows as many by gradient (authors' scripts: at random): its density stays. In Flying
Bird+ the density follows the run: from half of it on, an update drops weights for good while the robust generalisation
gap (train RA - val RA) grows, and grows more than it dropped while the adversarial validation loss rises. Amounts are
the authors'; a layer that is fully dense takes no part, and what grows is rounded down.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from distcond.config.fields import setting
from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.methods import pgd_at
from distcond.methods.method import Method
from distcond.models.conditional import ConditionalModel
from distcond.samplers.distributions import FixedOptions
from distcond.sparsity.distribution import DISTRIBUTIONS
from distcond.sparsity.drop_and_grow import DensityTrend, DropAndGrow, UpdateSchedule
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import layers_by_weight
from distcond.sparsity.update import SCHEDULES


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


def build_sparsity(config: Config, model: ConditionalModel, trend: DensityTrend | None = None) -> DropAndGrow:
    """The moving mask of a run.

    Raises:
        ConfigError: a network without convolutions or linear layers.
    """
    options = config.method
    assert isinstance(options, FlyingBirdOptions)
    fraction = partial(SCHEDULES[options.schedule], options.drop_fraction, options.drop_fraction_end)
    update_schedule = UpdateSchedule(options.update_every, options.update_every_late or options.update_every, fraction)
    masked = MaskedWeights(layers_by_weight(model, (nn.Conv2d, nn.Linear)))
    distribution = DISTRIBUTIONS[options.distribution]
    return DropAndGrow(masked, options.density, distribution, update_schedule, options.growth, trend, config.seed)


def sparsity(config: Config, model: ConditionalModel) -> DropAndGrow | None:
    """The moving mask of a run; None at density 1."""
    assert isinstance(config.method, FlyingBirdOptions)
    return None if config.method.density == 1 else build_sparsity(config, model)


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


@dataclass(frozen=True, kw_only=True)
class FlyingBirdPlusOptions(FlyingBirdOptions):
    """Flying Bird+'s own settings besides Flying Bird's."""

    adapt_from: float = setting(0.5, "share of the run after which the density follows it", ge=0, le=1)
    window: int = setting(4, "differences between consecutive epochs that are looked at", ge=1)
    threshold: float = setting(0.5, "share of them that has to point upwards", gt=0, le=1)
    extra_drop: float = setting(0.4, "dropped for good while the gap grows, as a share of what an update drops", ge=0)
    extra_grow: float = setting(0.05, "grown beyond that while the loss rises, as a share of what was dropped", ge=0)


def plus_sparsity(config: Config, model: ConditionalModel) -> DropAndGrow:
    """The moving mask of a run and the history it follows.

    Raises:
        ConfigError: no validation after every epoch, or no adversarial training: nothing for the density to follow.
    """
    options = config.method
    assert isinstance(options, FlyingBirdPlusOptions)
    if config.eval.every != 1:
        every = config.eval.every
        raise ConfigError(f"eval.every={every}: {options.name} needs the validation of every epoch; set eval.every=1")
    if pgd_at.lam_grid(config) == (0.0,):
        raise ConfigError(f"sampler.lam=0: {options.name} needs a robust accuracy in training; set sampler.lam above 0")
    trend = DensityTrend(options.window, options.threshold, options.adapt_from, options.extra_drop, options.extra_grow)
    return build_sparsity(config, model, trend)


PLUS_METHOD = Method(
    name="flying_bird_plus",
    summary="Flying Bird whose density follows the robust generalisation gap and the validation loss",
    paper="Flying Bird+, arXiv 2202.09844 section 3.3; amounts from the authors' code",
    options=FlyingBirdPlusOptions(name="flying_bird_plus"),
    layers=pgd_at.layers,
    objective=lambda options: pgd_at.objective,
    sampler=FixedOptions(name="fixed"),
    lam_grid=pgd_at.lam_grid,
    sparsity=plus_sparsity,
    reads_ra_loss=True,
)
