"""Lengths in pixels of [0, 1] against lengths in pixels of 0 to 255."""

from __future__ import annotations

from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError

#: An L2 radius from here on is taken for one in pixels of 0 to 255: the usual ones are 0.25 to 3.
_LARGE = {"Linf": 1.0, "L2": 16.0}


def check_lengths(path: str, attack: AttackConfig) -> None:
    """Raise ConfigError where a length of the attack at `path` of the config is none in pixels of [0, 1]."""
    for name in ("epsilon", "step_size"):
        length = getattr(attack, name)
        if length > _LARGE[attack.norm]:
            hint = f"{length:g}/255" if length.is_integer() else f"{length / 255:.3g}"
            raise ConfigError(f"{path}.{name}={length:g}: pixels are in [0, 1]; did you mean {hint}?")
