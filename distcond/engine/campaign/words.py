"""What an evaluation is asked to count, and the rules its settings must keep."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from distcond.attacks.attack import Attack, as_configured
from distcond.attacks.config_checks import check_lengths, check_moves
from distcond.config.fields import check_bounds, check_choice, parse_value, setting
from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError
from distcond.registry import describe_unknown, lookup
from distcond.results.row import NOISE_MODES, THREATS
from distcond.runs.load_run import CHECKPOINT_CHOICES

_ATTACK = "eval.attack."


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """The words of `python -m distcond.evaluate` besides `eval.*`, `data.*` and `launch.*`."""

    attack: tuple[str, ...] = setting(("pgd-best",), "attacks by name, comma-separated; none = SA alone")
    threat: tuple[str, ...] = setting(("adaptive",), "adaptive (attacker knows lam), transfer, worst, or several")
    attack_lam: tuple[float, ...] = setting((), "transfer and worst: where to optimise; empty = every lam of the grid")
    noise: tuple[str, ...] = setting(("fixed",), "of weight noise: fixed (attacker knows the draw), fresh, eot")
    eot_draws: int = setting(10, "noise=eot, and square on any random network: draws that are averaged", ge=2)
    checkpoint: str = setting("best", "best, last, or last_raw = without weight averaging")
    split: str = setting("test", "test or val")
    probe: bool = setting(False, "also say how often bf16 and float32 agree on the sign of input gradients")


def campaign_of(words: Mapping[str, str]) -> Campaign:
    """The campaign of a command's words.

    Raises:
        ConfigError: an unknown word or a value that is not valid; the message names the valid ones.
    """
    types, known = typing.get_type_hints(Campaign), {field.name: field for field in fields(Campaign)}
    values = {}
    for name, word in words.items():
        if name not in known:
            raise ConfigError(describe_unknown("setting of an evaluation", name, known))
        values[name] = parse_value(name, word, types[name])
        if values[name] != ():
            check_bounds(name, values[name], known[name].metadata)
    found = Campaign(**values)
    check_choice("checkpoint", found.checkpoint, CHECKPOINT_CHOICES)
    check_choice("split", found.split, ("test", "val"))
    for name, valid in (("threat", THREATS), ("noise", NOISE_MODES[1:])):
        if not getattr(found, name):
            raise ConfigError(f"{name}= is empty; valid: {', '.join(valid)}, or several")
        for word in getattr(found, name):
            check_choice(name, word, valid)
    for lam in found.attack_lam:
        if not 0 <= lam <= 1:
            raise ConfigError(f"attack_lam={lam:g}: must lie in [0, 1]")
    return found


def attacks_of(campaign: Campaign) -> tuple[Attack, ...]:
    """The attacks by name, in the order given; "none" is no attack.

    Raises:
        ConfigError: no such attack.
    """
    names = [name for name in dict.fromkeys(campaign.attack) if name != "none"]
    return tuple(lookup("attack", name) for name in names)


def attack_settings(paths: Iterable[str]) -> frozenset[str]:
    """Those of the settings that are of `eval.attack`, without that: what a command names of an attack."""
    return frozenset(path.removeprefix(_ATTACK) for path in paths if path.startswith(_ATTACK))


def strength(attack: Attack, config: AttackConfig, given: frozenset[str], classes: int) -> AttackConfig:
    """What `attack` will use, checked.

    Args:
        attack: which attack.
        config: the run's `eval.attack` with what the command changed.
        given: the settings of `eval.attack` that the command named.
        classes: how many the network tells apart.

    Raises:
        ConfigError: an attack that moves nothing, lengths that are no pixels in [0, 1], or too few classes for its
            loss.
    """
    settled = attack.settle(config, given)
    check_lengths("eval.attack", settled)
    check_moves("eval.attack", settled, "attack=none", own_steps=attack.settle is not as_configured, name=attack.name)
    if classes < attack.min_classes:
        raise ConfigError(
            f"attack={attack.name}: its loss needs {attack.min_classes} classes or more, here are {classes}"
        )
    return settled
