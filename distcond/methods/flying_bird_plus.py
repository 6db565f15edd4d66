"""Flying Bird+: Flying Bird with a density that follows the run (Chen et al., Sparsity Winning Twice, arXiv 2202.09844,
ICLR 2022, section 3.3).

From half of the run on, an update drops weights for good while the robust generalisation gap (train RA - val RA) grows,
and grows more than it dropped while the adversarial validation loss rises. Thresholds and amounts are those of the
authors' code, train RA that of the training batches. As there, a layer that is fully dense takes no part, and what
grows is rounded down.
"""

from __future__ import annotations

from dataclasses import dataclass

from distcond.config.schema import Config
from distcond.config.setting import setting
from distcond.errors import ConfigError
from distcond.methods import pgd_at
from distcond.methods.flying_bird import FlyingBirdOptions, make_sparsity
from distcond.methods.method import Method
from distcond.models.conditional import ConditionalModel
from distcond.samplers.fixed import FixedOptions
from distcond.sparsity.drop_and_grow import DropAndGrow
from distcond.sparsity.trend import Trend


@dataclass(frozen=True, kw_only=True)
class FlyingBirdPlusOptions(FlyingBirdOptions):
    """Flying Bird+'s own settings besides Flying Bird's."""

    adapt_from: float = setting(0.5, "share of the run after which the density follows it", ge=0, le=1)
    window: int = setting(4, "differences between consecutive epochs that are looked at", ge=1)
    threshold: float = setting(0.5, "share of them that has to point upwards", gt=0, le=1)
    extra_drop: float = setting(0.4, "dropped for good while the gap grows, as a share of what an update drops", ge=0)
    extra_grow: float = setting(0.05, "grown beyond that while the loss rises, as a share of what was dropped", ge=0)


def sparsity(config: Config, model: ConditionalModel) -> DropAndGrow:
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
    trend = Trend(options.window, options.threshold, options.adapt_from, options.extra_drop, options.extra_grow)
    return make_sparsity(config, model, trend)


METHOD = Method(
    name="flying_bird_plus",
    summary="Flying Bird whose density follows the robust generalisation gap and the validation loss",
    paper="Flying Bird+, arXiv 2202.09844 section 3.3; amounts from the authors' code",
    options=FlyingBirdPlusOptions(name="flying_bird_plus"),
    layers=pgd_at.layers,
    objective=lambda options: pgd_at.objective,
    sampler=FixedOptions(name="fixed"),
    lam_grid=pgd_at.lam_grid,
    sparsity=sparsity,
)
