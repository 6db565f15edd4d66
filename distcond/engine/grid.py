"""The operating points at which a run's network is looked at."""

from __future__ import annotations

from distcond.config.schema import Config
from distcond.methods.method import Method
from distcond.registry import lookup


def lam_grid(config: Config) -> tuple[float, ...]:
    """The lam values that make sense for the config's method.

    Raises:
        ConfigError: `eval.lam_grid` or the sampler do not fit the method.
    """
    method: Method = lookup("method", config.method.name)
    return method.lam_grid(config)
