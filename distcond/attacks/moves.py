"""Settings under which an attack is none: images that are not moved count as attacked ones."""

from __future__ import annotations

from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError

#: Lengths below are lost in the rounding of a pixel, or of no use to anyone.
LEAST = 1e-6
#: The least part of the radius that all steps together have to be able to go.
REACH = 0.01


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
    if attack.epsilon < LEAST:
        raise ConfigError(f"{path}.epsilon={attack.epsilon:g}: {still}; valid: more than 0, such as 8/255{other}")
    if not attack.num_steps:
        raise ConfigError(f"{steps}=0: {still}; valid: 1 or more{other}")
    if own_steps:
        return
    if attack.step_size < LEAST:
        raise ConfigError(f"{path}.step_size={attack.step_size:g}: {still}; valid: more than 0, such as 2/255{other}")
    reach, least = attack.num_steps * attack.step_size, REACH * attack.epsilon
    if reach < least:
        far = f"{attack.num_steps} steps go {reach:.2g} of a radius of {attack.epsilon:.3g}"
        valid = f"{least / attack.num_steps:.2g} or more, usual is epsilon / 4"
        raise ConfigError(f"{path}.step_size={attack.step_size:g}: {far}; valid: {valid}{other}")
