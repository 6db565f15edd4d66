"""Flying Bird and Flying Bird+: adversarial training of a sparse network with a dynamic mask (Chen et al., Sparsity
Winning Twice, arXiv 2202.09844, ICLR 2022, section 3.3).

Convolutions and classifier are masked from the start (ERK; authors' code: IGQ). Every `update_every` steps each layer
drops its smallest weights and grows as many by gradient (authors' scripts: at random), so its density is constant.
Flying Bird+ adapts the density in the second half of the run: an update drops extra weights while the robust
generalisation gap (train RA - val RA) grows, and grows extra weights while the adversarial validation loss rises.
Amounts are the authors'. Fully dense layers are not updated, and growth counts are rounded down.
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
    """Settings of Flying Bird."""

    density: float = setting(0.2, "kept share of convolutions and classifier; 1 = adversarial training", gt=0, le=1)
    distribution: Literal["erk", "igq", "uniform"] = setting(
        "erk", "distribution of the density over layers (authors' code: igq)"
    )
    growth: Literal["gradient", "random"] = setting(
        "gradient", "grow where the gradient is largest, or at random (authors' scripts: random)"
    )
    update_every: int = setting(900, "steps between updates of the mask", ge=1)
    update_every_late: int = setting(
        0, "update_every in the second half of the run; 0 = the same (authors' scripts: 1200)", ge=0
    )
    drop_fraction: float = setting(0.5, "share of a layer's weights that the first update drops", ge=0, le=1)
    drop_fraction_end: float = setting(0.005, "drop_fraction at the end of the run", ge=0, le=1)
    schedule: Literal["cosine", "linear"] = setting("cosine", "decay of drop_fraction over the run")


def build_sparsity(config: Config, model: ConditionalModel, trend: DensityTrend | None = None) -> DropAndGrow:
    """The dynamic mask of a run.

    Raises:
        ConfigError: the network has no convolution or linear layer.
    """
    options = config.method
    assert isinstance(options, FlyingBirdOptions)
    fraction = partial(SCHEDULES[options.schedule], options.drop_fraction, options.drop_fraction_end)
    update_schedule = UpdateSchedule(options.update_every, options.update_every_late or options.update_every, fraction)
    masked = MaskedWeights(layers_by_weight(model, (nn.Conv2d, nn.Linear)))
    distribution = DISTRIBUTIONS[options.distribution]
    return DropAndGrow(masked, options.density, distribution, update_schedule, options.growth, trend, config.seed)


def sparsity(config: Config, model: ConditionalModel) -> DropAndGrow | None:
    """The dynamic mask of a run; None at density 1."""
    assert isinstance(config.method, FlyingBirdOptions)
    return None if config.method.density == 1 else build_sparsity(config, model)


METHOD = Method(
    name="flying_bird",
    summary="sparse adversarial training with a dynamic mask: each layer drops and grows as many weights",
    paper="Flying Bird, arXiv 2202.09844 section 3.3; initial layer densities are an interpretation",
    options=FlyingBirdOptions(name="flying_bird"),
    layers=pgd_at.layers,
    objective=lambda options: pgd_at.objective,
    sampler=FixedOptions(name="fixed"),
    lam_grid=pgd_at.lam_grid,
    sparsity=sparsity,
)


@dataclass(frozen=True, kw_only=True)
class FlyingBirdPlusOptions(FlyingBirdOptions):
    """Settings of Flying Bird+."""

    adapt_from: float = setting(0.5, "share of the run after which the density adapts", ge=0, le=1)
    window: int = setting(4, "number of differences between consecutive epochs in a trend", ge=1)
    threshold: float = setting(0.5, "share of them that must be upwards", gt=0, le=1)
    extra_drop: float = setting(0.4, "extra weights dropped while the gap grows, as a share of those dropped", ge=0)
    extra_grow: float = setting(0.05, "extra weights grown while the loss rises, as a share of those dropped", ge=0)


def plus_sparsity(config: Config, model: ConditionalModel) -> DropAndGrow:
    """The dynamic mask of a run, with the trend that adapts its density.

    Raises:
        ConfigError: eval.every is not 1, or there is no adversarial training: the trend needs both.
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
    summary="Flying Bird with a density that adapts to the robust generalisation gap and the validation loss",
    paper="Flying Bird+, arXiv 2202.09844 section 3.3; amounts from the authors' code",
    options=FlyingBirdPlusOptions(name="flying_bird_plus"),
    layers=pgd_at.layers,
    objective=lambda options: pgd_at.objective,
    sampler=FixedOptions(name="fixed"),
    lam_grid=pgd_at.lam_grid,
    sparsity=plus_sparsity,
    reads_ra_loss=True,
)
