"""Settings under which an attack is none: lengths in pixels of 0 to 255, or steps that move no image."""

from __future__ import annotations

from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError

#: An L2 radius from here on is taken for one in pixels of 0 to 255: the usual ones are 0.25 to 3.
_LARGEST = {"Linf": 1.0, "L2": 16.0}


def check_lengths(path: str, attack: AttackConfig) -> None:
    """Raise ConfigError where a length of the attack at `path` of the config is none in pixels of [0, 1]."""
    for name in ("epsilon", "step_size"):
        length = getattr(attack, name)
        if length > _LARGEST[attack.norm]:
            hint = f"{length:g}/255" if length.is_integer() else f"{length / 255:.3g}"
            raise ConfigError(f"{path}.{name}={length:g}: pixels are in [0, 1]; did you mean {hint}?")


#: Lengths below are lost in the rounding of a pixel, or of no use to anyone.
LEAST_LENGTH = 1e-6
#: The least part of the radius that all steps together have to be able to go.
LEAST_REACH = 0.01


def check_moves(
    path: str, attack: AttackConfig, instead: str = "", steps: str = "", own_steps: bool = False, name: str = ""
) -> None:
    """Raise ConfigError where the attack at `path` of the config cannot move an image, or hardly.

    Args:
        path: where its settings stand.
        attack: the attack.
        instead: what to write who wants none, such as "attack=none".
        steps: the setting its number of steps comes from; "" = `num_steps` at `path`.
        own_steps: whether it chooses the length of its steps by itself.
        name: what it is called.
    """
    steps, other = steps or f"{path}.num_steps", f", or {instead}" if instead else ""
    still = f"{name or 'the attack'} would move nothing"
    if attack.epsilon < LEAST_LENGTH:
        raise ConfigError(f"{path}.epsilon={attack.epsilon:g}: {still}; valid: more than 0, such as 8/255{other}")
    if not attack.num_steps:
        raise ConfigError(f"{steps}=0: {still}; valid: 1 or more{other}")
    if own_steps:
        return
    if attack.step_size < LEAST_LENGTH:
        raise ConfigError(f"{path}.step_size={attack.step_size:g}: {still}; valid: more than 0, such as 2/255{other}")
    reach, least = attack.num_steps * attack.step_size, LEAST_REACH * attack.epsilon
    if reach < least:
        far = f"{attack.num_steps} steps go {reach:.2g} of a radius of {attack.epsilon:.3g}"
        valid = f"{least / attack.num_steps:.2g} or more, usual is epsilon / 4"
        raise ConfigError(f"{path}.step_size={attack.step_size:g}: {far}; valid: {valid}{other}")
