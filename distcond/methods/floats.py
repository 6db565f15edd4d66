"""FLOATS: FLOAT with sparse weights, one mask for every lam (Kundu et al., arXiv 2204.00426; sparse learning as in DNR,
arXiv 2011.03083, by the sparse momentum of Dettmers & Zettlemoyer 2019).

Sparse from the start, one training run. After every epoch each layer drops its smallest weights and all of them
together grow as many, layer by layer in proportion to the momentum on what they keep, where the momentum is largest:
the density of the network stays, those of the layers are learned. Only convolutions are masked. The mechanics are those
of the authors' code, made exact in the number of weights. Two things differ from it: noise falls on the kept weights
only (`dense_noise` for the other), and density 1 leaves out all of this instead of shuffling weights about.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from distcond.config.fields import setting
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.layers.layer_set import LayerSet, masked_noisy, noisy
from distcond.layers.noisy import NoisyConv2d
from distcond.methods.float import FloatOptions, amplitude, objective, routing
from distcond.methods.method import Method
from distcond.models.conditional import ConditionalModel
from distcond.samplers.distributions import TwoPointOptions
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import layers_by_weight
from distcond.sparsity.momentum_regrowth import MomentumRegrowth
from distcond.sparsity.update import GRANULARITIES, SCHEDULES


@dataclass(frozen=True, kw_only=True)
class FloatsOptions(FloatOptions):
    """FLOATS's own settings besides FLOAT's."""

    density: float = setting(0.1, "kept share of the convolutions' weights; 1 = FLOAT", gt=0, le=1)
    drop_fraction: float = setting(0.5, "share of a layer's weights an update drops at first; falls to 0", ge=0, le=1)
    schedule: Literal["linear", "cosine"] = setting("linear", "how that share falls over the run")
    by: Literal["weight", "channel"] = setting("weight", "drop and grow single weights, or whole input channels")
    dense_noise: bool = setting(
        False, "noise on dropped weights too, as in the authors' code: the network is then dense for lam > 0"
    )


def layers(options: FloatsOptions, shared: bool) -> LayerSet:
    """Noisy convolutions that know their mask, and dual batch normalisation."""
    if options.density == 1 or options.dense_noise:
        return noisy(amplitude(options), shared)
    return masked_noisy(amplitude(options), shared)


def sparsity(config: Config, model: ConditionalModel) -> MomentumRegrowth | None:
    """The one mask of the run; None at density 1.

    Raises:
        ConfigError: no momentum to grow by, or a network that is not made of the method's layers.
    """
    options = config.method
    assert isinstance(options, FloatsOptions)
    if options.density == 1:
        return None
    if config.optim.momentum == 0:
        raise ConfigError(f"optim.momentum=0: {options.name} grows weights by momentum; set it above 0, such as 0.9")
    return MomentumRegrowth(
        MaskedWeights(layers_by_weight(model, (NoisyConv2d,))),
        options.density,
        partial(SCHEDULES[options.schedule], options.drop_fraction, 0.0),
        GRANULARITIES[options.by],
        config.seed,
    )


METHOD = Method(
    name="floats",
    summary="FLOAT with one sparse mask: fixed density, layers trade it every epoch by momentum",
    paper="FLOATS, arXiv 2204.00426; mechanics from the authors' code, noise on kept weights is an interpretation",
    options=FloatsOptions(name="floats"),
    layers=layers,
    objective=lambda options: objective,
    sampler=TwoPointOptions(name="two_point"),
    routing=routing,
    sparsity=sparsity,
)
