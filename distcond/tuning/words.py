"""The words of `python -m distcond.tune` besides settings of the config."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from distcond.config.fields import check_bounds, parse_value, setting
from distcond.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Words:
    """How a space is searched."""

    search: Literal["random", "grid", "tpe", "nsga2"] = setting(
        "random", "random, grid, tpe (Optuna), nsga2 (Optuna, several objectives)"
    )
    scheduler: Literal["none", "asha", "pbt"] = setting(
        "none", "asha stops the worse ones early; pbt copies the better ones' weights and changes their settings"
    )
    trials: int = setting(0, "runs; 0 = as many as the space says", ge=0)
    objective: tuple[str, ...] = setting(
        ("hypervolume",), "hypervolume, sa@LAM, ra@LAM, train_flops, seconds; several with nsga2, tpe or random"
    )
    reference: tuple[float, ...] = setting((0.0, 0.0), "SA,RA above which the hypervolume is counted", ge=0, le=1)
    grace: int = setting(1, "asha: epochs of every trial", ge=1)
    reduction: int = setting(3, "asha: one in so many goes on at each rung, to so many times the epochs", ge=2)
    interval: int = setting(1, "pbt: epochs between exploits", ge=1)
    quantile: float = setting(0.25, "pbt: share of the trials that better ones replace", gt=0, le=0.5)
    points: int = setting(3, "grid: values of a continuous axis", ge=1)
    concurrent: int = setting(0, "trials at a time; 0 = as many as there is room for", ge=0)
    retries: int = setting(1, "times a trial whose process died is taken up again", ge=0)
    hang: float = setting(1800.0, "seconds without any progress after which a trial has failed", gt=0)
    search_seed: int = setting(0, "of the search; that of the runs is seed=", ge=0)
    budget: Literal["full", "small"] = setting("full", "small = what the space says for minutes on a laptop")
    dir: str = setting("", "where the sweep lies; empty = ./sweeps/SPACE")


NAMES = tuple(one.name for one in fields(Words))


def words_of(told: Mapping[str, Any]) -> Words:
    """The words of a command, or of a space's file.

    Raises:
        ConfigError: a value that is not valid.
    """
    types, known = typing.get_type_hints(Words), {one.name: one for one in fields(Words)}
    values = {}
    for name, value in told.items():
        if name not in known:
            raise ConfigError(f"{name}={value}: no word of a sweep; valid: {', '.join(NAMES)}")
        values[name] = parse_value(name, value, types[name])
        check_bounds(name, values[name], known[name].metadata)
    return _agreed(Words(**values))


def plain(words: Words) -> dict[str, Any]:
    """As it stands in `sweep.json`."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(words).items()}


def help_lines() -> str:
    """Every word with its value and what it means."""
    rows = []
    for one in fields(Words):
        default = ",".join(map(str, one.default)) if isinstance(one.default, tuple) else one.default
        rows.append((f"{one.name}={default}", one.metadata["help"]))
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"  {left:<{width}}  {text}" for left, text in rows)


def _agreed(words: Words) -> Words:
    """`words`, if they go together."""
    if not words.objective:
        raise ConfigError("objective= is empty; valid: hypervolume, sa@LAM, ra@LAM, train_flops, seconds, or several")
    if len(words.reference) != 2:
        raise ConfigError(f"reference={','.join(map(str, words.reference))}: expected SA,RA, such as 0.1,0")
    if len(words.objective) > 1 and words.scheduler != "none":
        raise ConfigError(f"scheduler={words.scheduler}: compares by one objective, here are {len(words.objective)}")
    if len(words.objective) > 1 and words.search == "grid":
        return words
    if words.scheduler == "pbt" and words.search != "random":
        raise ConfigError(f"scheduler=pbt search={words.search}: its trials change by themselves; valid: search=random")
    return words
