"""A standard run's and a robust run's network as one model, made by `python -m distcond.pair`.

The baseline of conditional networks: a dial interpolates the weights or mixes the outputs of the two. It is not
trained. lam 0 is the standard run, any larger lam the robust one; only blends are in between.
"""

from __future__ import annotations

from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.layers.layer_set import LayerSet, paired_layers
from distcond.methods.method import Method, Objective
from distcond.samplers.distributions import FixedOptions


def layers(options: Options, shared: bool) -> LayerSet:
    """Every layer exists twice."""
    return paired_layers(shared)


def objective(options: Options) -> Objective:
    """There is none: a pair is not trained.

    Raises:
        ConfigError: always.
    """
    raise ConfigError("method=pair: is not trained; make it from two runs: python -m distcond.pair STANDARD ROBUST")


def lam_grid(config: Config) -> tuple[float, ...]:
    """The lams 0 and 1 of `eval.lam_grid`: the two runs.

    Raises:
        ConfigError: the grid has neither.
    """
    points = tuple(lam for lam in config.eval.lam_grid if lam in (0, 1))
    if not points:
        raise ConfigError("eval.lam_grid: a pair is two runs, lam 0 and lam 1; give 0, 1 or both")
    return points


METHOD = Method(
    name="pair",
    summary="two runs as one model, made by distcond.pair: the baseline of conditional networks; not trained",
    paper="adaptive smoothing, arXiv 2301.12554; robust soups, arXiv 2302.10164; MixedNUTS, arXiv 2402.02263",
    options=Options(name="pair"),
    layers=layers,
    objective=objective,
    sampler=FixedOptions(name="fixed"),
    default_grid=(0.0, 1.0),
    lam_grid=lam_grid,
    trains=False,
)
