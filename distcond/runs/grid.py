"""The operating points at which a run is evaluated, by its config."""

from __future__ import annotations

from dataclasses import replace

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.methods.method import Method
from distcond.models.dial import point_on_dial
from distcond.operating_point import PAIR_BLENDS, OperatingPoint
from distcond.registry import lookup
from distcond.runs.even_dial import EvenDial


def lam_grid(config: Config) -> tuple[float, ...]:
    """The lam values of `eval.lam_grid` that the config's method supports.

    Raises:
        ConfigError: `eval.lam_grid` or the sampler does not fit the method.
    """
    method: Method = lookup("method", config.method.name)
    return method.lam_grid(config)


def positions(config: Config) -> tuple[float, ...]:
    """The positions of the run's dial to evaluate, without duplicates; for a switch, `eval.lam_grid`.

    Raises:
        ConfigError: as of `lam_grid`, or the method's networks do not support the blend.
    """
    if config.eval.dial == "switch":
        return tuple(dict.fromkeys(lam_grid(config)))
    check_ends(config)
    return tuple(dict.fromkeys(config.eval.dial_grid))


def point_at(config: Config, position: float, even: EvenDial | None = None) -> OperatingPoint:
    """The operating point at a position of the run's dial. `even` is the map of `eval.dial_even`, if it is set."""
    return point_on_dial(config.eval.dial, position if even is None else even(position), config.eval.dial_lam)


def operating_points(config: Config, even: EvenDial | None = None) -> tuple[OperatingPoint, ...]:
    """The operating points at which the run's network is evaluated.

    Raises:
        ConfigError: as of `positions`, or `eval.dial_even` is set without its map, which is fitted after training.
    """
    setting = config.eval.dial_even
    if setting != "no" and even is None:
        raise ConfigError(
            f"eval.dial_even={setting}: fitted after training, by distcond.calibrate even={setting}; valid: no"
        )
    return tuple(point_at(config, position, even) for position in positions(config))


def check_ends(config: Config) -> None:
    """Check that the method has both ends of the blend in `eval.dial`.

    Raises:
        ConfigError: the method has one path, or `eval.dial_lam` is not on its adversarial path.
    """
    settings = config.eval
    method: Method = lookup("method", config.method.name)
    if not method.has_two_paths(config.method):
        raise ConfigError(
            f"eval.dial={settings.dial}: {config.method.name} has one path, a blend needs two; valid: switch"
        )
    if settings.dial in PAIR_BLENDS and method.trains:
        raise ConfigError(
            f"eval.dial={settings.dial}: blends two runs (distcond.pair), {config.method.name} is one network; "
            "valid: switch, weights, outputs"
        )
    if not settings.dial_lam:
        raise ConfigError("eval.dial_lam=0: chosen after training, by distcond.calibrate end=ra; valid: above 0")
    valid = method.lam_grid(replace(config, eval=replace(settings, lam_grid=(0.0, settings.dial_lam))))
    if settings.dial_lam not in valid or not method.routing(config.method).at(settings.dial_lam).route:
        raise ConfigError(
            f"eval.dial_lam={settings.dial_lam:g}: {config.method.name} has no robust path there; try a larger one"
        )
