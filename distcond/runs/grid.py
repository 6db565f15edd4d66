"""The operating points at which a run's network is looked at."""

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
    """The lam values that make sense for the config's method.

    Raises:
        ConfigError: `eval.lam_grid` or the sampler do not fit the method.
    """
    method: Method = lookup("method", config.method.name)
    return method.lam_grid(config)


def positions(config: Config) -> tuple[float, ...]:
    """Where the run's dial is looked at, each once, in the order given: `eval.lam_grid` for a switch.

    Raises:
        ConfigError: as `lam_grid`, or a blend that the method's networks do not have.
    """
    if config.eval.dial == "switch":
        return tuple(dict.fromkeys(lam_grid(config)))
    check_ends(config)
    return tuple(dict.fromkeys(config.eval.dial_grid))


def place_at(config: Config, position: float, even: EvenDial | None = None) -> OperatingPoint:
    """The operating point that a position of the run's dial means; `even` is the map that `eval.dial_even` asks for."""
    return point_on_dial(config.eval.dial, position if even is None else even(position), config.eval.dial_lam)


def operating_points(config: Config, even: EvenDial | None = None) -> tuple[OperatingPoint, ...]:
    """Where the run's network is looked at.

    Raises:
        ConfigError: as `positions`, or an even dial without its map, which is fitted after a run.
    """
    wanted = config.eval.dial_even
    if wanted != "no" and even is None:
        raise ConfigError(
            f"eval.dial_even={wanted}: fitted after training, by distcond.calibrate even={wanted}; valid: no"
        )
    return tuple(place_at(config, position, even) for position in positions(config))


def check_ends(config: Config) -> None:
    """Refuse a blend without two ends, before any network is made.

    Raises:
        ConfigError: the method has one path, or no network at `eval.dial_lam` on the adversarial one.
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
    valid = method.lam_grid(replace(config, eval=replace(settings, lam_grid=(0.0, settings.dial_lam))))
    if settings.dial_lam not in valid or not method.routing(config.method).at(settings.dial_lam).route:
        raise ConfigError(
            f"eval.dial_lam={settings.dial_lam:g}: {config.method.name} has no robust path there; try a larger one"
        )
