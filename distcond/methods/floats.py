"""FLOATS: FLOAT with sparse weights and one mask for all lam (Kundu et al., arXiv 2204.00426).

Sparse learning as in DNR (arXiv 2011.03083), with the sparse momentum of Dettmers & Zettlemoyer (2019). The network is
sparse from the start. After every epoch each layer drops its smallest weights. The network then grows as many weights
where momentum is largest, distributed over layers in proportion to the momentum of their kept weights. The density of
the network is constant, the densities of the layers are learned. Only convolutions are masked.

Follows the authors' code, with exact weight counts and two differences: noise is on kept weights only (`dense_noise`
restores theirs), and density 1 disables masks instead of exchanging weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from distcond.config.fields import setting
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.layers.layer_set import LayerSet, masked_noisy_layers, noisy_layers
from distcond.layers.noisy import NoisyConv2d
from distcond.methods.float import FloatOptions, amplitude, make_objective, routing
from distcond.methods.method import Method
from distcond.models.conditional import ConditionalModel
from distcond.samplers.distributions import TwoPointOptions
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import layers_by_weight
from distcond.sparsity.momentum_regrowth import MomentumRegrowth
from distcond.sparsity.update import GRANULARITIES, SCHEDULES


@dataclass(frozen=True, kw_only=True)
class FloatsOptions(FloatOptions):
    """Settings of FLOATS."""

    density: float = setting(0.1, "kept share of the convolutions' weights; 1 = FLOAT", gt=0, le=1)
    drop_fraction: float = setting(0.5, "share of each layer's weights that updates drop; decays to 0", ge=0, le=1)
    schedule: Literal["linear", "cosine"] = setting("linear", "decay of drop_fraction over the run")
    by: Literal["weight", "channel"] = setting("weight", "drop and grow single weights, or complete input channels")
    dense_noise: bool = setting(
        False, "noise on dropped weights too, as in the authors' code: the network is then dense for lam > 0"
    )


def layers(options: FloatsOptions, shared: bool) -> LayerSet:
    """Noisy convolutions with a mask, and dual batch normalisation."""
    if options.density == 1 or options.dense_noise:
        return noisy_layers(amplitude(options), shared)
    return masked_noisy_layers(amplitude(options), shared)


def sparsity(config: Config, model: ConditionalModel) -> MomentumRegrowth | None:
    """The mask of the run; None at density 1.

    Raises:
        ConfigError: optim.momentum is 0, or the network has none of the method's layers.
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
    objective=make_objective,
    sampler=TwoPointOptions(name="two_point"),
    routing=routing,
    sparsity=sparsity,
)
