"""What an evaluation is asked to count, and the rules its settings must keep."""

from __future__ import annotations

import logging
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from distcond.attacks.attack import EARLIER_NAMES, Attack, as_configured
from distcond.attacks.config_checks import check_lengths, check_moves
from distcond.config.fields import check_bounds, check_choice, parse_value, setting
from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError
from distcond.registry import describe_unknown, lookup
from distcond.results.row import NOISE_MODES, THREATS
from distcond.runs.load_run import CHECKPOINT_CHOICES

_log = logging.getLogger(__name__)

_ATTACK = "eval.attack."

#: Earlier names that a line has warned of.
_warned: set[str] = set()


@dataclass(frozen=True, kw_only=True)
class EvalSpec:
    """The settings of `python -m distcond.evaluate` besides `eval.*`, `data.*` and `launch.*`."""

    attack: tuple[str, ...] = setting(
        (), "attacks by name, comma-separated; empty = eval.attack_name of the run; none = SA alone"
    )
    threat: tuple[str, ...] = setting(("adaptive",), "adaptive (attacker knows lam), transfer, worst, or several")
    attack_lam: tuple[float, ...] = setting((), "transfer and worst: where to optimise; empty = every lam of the grid")
    noise: tuple[str, ...] = setting(("fixed",), "of weight noise: fixed (attacker knows the draw), fresh, eot")
    eot_draws: int = setting(10, "noise=eot, and square on any random network: draws that are averaged", ge=2)
    checkpoint: str = setting("best", "best, last, or last_raw = without weight averaging")
    split: str = setting("test", "test or val")
    probe: bool = setting(False, "also say how often bf16 and float32 agree on the sign of input gradients")


def read_spec(settings: Mapping[str, Any]) -> EvalSpec:
    """The specification that a command's settings make.

    Raises:
        ConfigError: an unknown setting or a value that is not valid; the message names the valid ones.
    """
    types, known = typing.get_type_hints(EvalSpec), {field.name: field for field in fields(EvalSpec)}
    values = {}
    for name, value in settings.items():
        if name not in known:
            raise ConfigError(describe_unknown("setting of an evaluation", name, known))
        values[name] = parse_value(name, value, types[name])
        if values[name] != ():
            check_bounds(name, values[name], known[name].metadata)
    if "attack" in values:
        values["attack"] = tuple(present_name(name, "attack") for name in values["attack"])
    found = EvalSpec(**values)
    check_choice("checkpoint", found.checkpoint, CHECKPOINT_CHOICES)
    check_choice("split", found.split, ("test", "val"))
    for name, valid in (("threat", THREATS), ("noise", NOISE_MODES[1:])):
        if not getattr(found, name):
            raise ConfigError(f"{name}= is empty; valid: {', '.join(valid)}, or several")
        for option in getattr(found, name):
            check_choice(name, option, valid)
    for lam in found.attack_lam:
        if not 0 <= lam <= 1:
            raise ConfigError(f"attack_lam={lam:g}: must lie in [0, 1]")
    return found


def present_name(name: str, setting_name: str) -> str:
    """What an attack is called now; one line of warning where a setting has a name of an earlier version."""
    now = EARLIER_NAMES.get(name, name)
    if now != name and name not in _warned:
        _warned.add(name)
        _log.warning("%s=%s: it is called %s now, and the next version takes no other name", setting_name, name, now)
    return now


def attacks_of(spec: EvalSpec) -> tuple[Attack, ...]:
    """The attacks by name, in the order given; "none" is no attack.

    Raises:
        ConfigError: no such attack.
    """
    names = [name for name in dict.fromkeys(spec.attack) if name != "none"]
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
