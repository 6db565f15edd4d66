"""Refuses attack settings that cannot work: lengths for pixels in 0 to 255, or steps that change no image."""

from __future__ import annotations

from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError

#: Larger lengths are assumed to be for pixels in 0 to 255; common L2 epsilons are 0.25 to 3.
_LARGEST = {"Linf": 1.0, "L2": 16.0}
#: Smaller lengths are lost in the rounding of a pixel.
LEAST_LENGTH = 1e-6
#: All steps together must be able to cover this share of epsilon.
LEAST_REACH = 0.01


def check_lengths(path: str, attack: AttackConfig) -> None:
    """Check the lengths of the attack whose settings are at `path`, such as "eval.attack".

    Raises:
        ConfigError: a length is too large for pixels in [0, 1].
    """
    for name in ("epsilon", "step_size"):
        length = getattr(attack, name)
        if length > _LARGEST[attack.norm]:
            hint = f"{length:g}/255" if length.is_integer() else f"{length / 255:.3g}"
            raise ConfigError(f"{path}.{name}={length:g}: pixels are in [0, 1]; did you mean {hint}?")


def check_moves(
    path: str, attack: AttackConfig, instead: str = "", steps: str = "", own_steps: bool = False, name: str = ""
) -> None:
    """Check that the attack can change an image.

    Args:
        path: path of its settings, such as "eval.attack".
        attack: the attack.
        instead: the setting that disables the attack, for the message; such as "attack=none".
        steps: the setting of its number of steps; "" = `num_steps` at `path`.
        own_steps: whether the attack chooses its own step size.
        name: its name, for the message.

    Raises:
        ConfigError: epsilon, the number of steps or the step size is too small.
    """
    steps, other = steps or f"{path}.num_steps", f", or {instead}" if instead else ""
    no_effect = f"{name or 'the attack'} would move nothing"
    if attack.epsilon < LEAST_LENGTH:
        raise ConfigError(f"{path}.epsilon={attack.epsilon:g}: {no_effect}; valid: more than 0, such as 8/255{other}")
    if not attack.num_steps:
        raise ConfigError(f"{steps}=0: {no_effect}; valid: 1 or more{other}")
    if own_steps:
        return
    if attack.step_size < LEAST_LENGTH:
        raise ConfigError(
            f"{path}.step_size={attack.step_size:g}: {no_effect}; valid: more than 0, such as 2/255{other}"
        )
    reach, least = attack.num_steps * attack.step_size, LEAST_REACH * attack.epsilon
    if reach < least:
        problem = f"{attack.num_steps} steps reach {reach:.2g} of epsilon={attack.epsilon:.3g}"
        valid = f"{least / attack.num_steps:.2g} or more, usual is epsilon / 4"
        raise ConfigError(f"{path}.step_size={attack.step_size:g}: {problem}; valid: {valid}{other}")
