"""The options of `python -m distcond.tune` besides settings of the config."""

from __future__ import annotations

import ast
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from distcond.config.fields import check_bounds, parse_value, setting
from distcond.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """How a space is searched."""

    search: str = setting(
        "random",
        "random, grid, tpe (Optuna), nsga2 (Optuna, several objectives), or a searcher of Ray Tune as module.Class",
    )
    search_options: tuple[str, ...] = setting((), "NAME=VALUE,...: arguments of that searcher's class")
    scheduler: str = setting(
        "none",
        "asha, async_hyperband, hyperband, median end worse trials early; pbt copies the better ones' weights; or a "
        "scheduler of Ray Tune as module.Class",
    )
    scheduler_options: tuple[str, ...] = setting((), "NAME=VALUE,...: arguments of that scheduler's class")
    trials: int = setting(0, "trials; 0 = as many as the space says", ge=0)
    objective: tuple[str, ...] = setting(
        ("hypervolume",), "hypervolume, sa@LAM, ra@LAM, train_flops, seconds; several with nsga2, tpe, random or grid"
    )
    reference: tuple[float, ...] = setting((0.0, 0.0), "SA,RA above which the hypervolume is counted", ge=0, le=1)
    grace: int = setting(1, "asha, hyperband, median: epochs of every trial", ge=1)
    reduction: int = setting(3, "asha, hyperband: one in so many continues at each rung, to so many times the epochs",
                             ge=2)  # fmt: skip
    brackets: int = setting(1, "asha: brackets, each with a longer grace", ge=1)
    interval: int = setting(1, "pbt: epochs between exploits", ge=1)
    quantile: float = setting(0.25, "pbt: share of the trials that better ones replace", gt=0, le=0.5)
    points: int = setting(3, "grid: values of a continuous axis", ge=1)
    concurrent: int = setting(0, "trials at a time; 0 = as many as fit", ge=0)
    gpus: float = setting(
        1.0, "GPUs of a trial with one worker, if it uses one; below 1 trials share a GPU", gt=0, le=1
    )
    retries: int = setting(1, "times a trial whose process died is retried", ge=0)
    hang: float = setting(1800.0, "seconds without progress after which a trial has failed", gt=0)
    callbacks: tuple[str, ...] = setting((), "callbacks of Ray Tune as module.Class, or tensorboard")
    search_seed: int = setting(0, "of the search; that of the runs is seed=", ge=0)
    budget: Literal["full", "small"] = setting("full", "small = what the space says for minutes on a laptop")
    dir: str = setting("", "the sweep directory, or its URI (s3://...); empty = ./sweeps/SPACE")

    def to_plain(self) -> dict[str, Any]:
        """As stored in `sweep.json`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


NAMES = tuple(one.name for one in fields(SweepOptions))


def read_options(values: Mapping[str, Any]) -> SweepOptions:
    """The options of a command, or of a space's file.

    Raises:
        ConfigError: a value that is not valid.
    """
    types, known = typing.get_type_hints(SweepOptions), {one.name: one for one in fields(SweepOptions)}
    parsed = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{name}={value}: not an option of a sweep; valid: {', '.join(NAMES)}")
        parsed[name] = parse_value(name, value, types[name])
        check_bounds(name, parsed[name], known[name].metadata)
    return _consistent(SweepOptions(**parsed))


def keyword_arguments(name: str, pairs: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` pairs of `search_options` or `scheduler_options`; a value is a Python literal or a text.

    Raises:
        ConfigError: an entry that is no pair.
    """
    found = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key.isidentifier():
            raise ConfigError(f"{name}={pair}: expected NAME=VALUE,NAME=VALUE, such as max_t=9")
        try:
            found[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[key] = text
    return found


def help_lines() -> str:
    """Every option with its default and its meaning."""
    rows = []
    for one in fields(SweepOptions):
        default = ",".join(map(str, one.default)) if isinstance(one.default, tuple) else one.default
        rows.append((f"{one.name}={default}", one.metadata["help"]))
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"  {left:<{width}}  {text}" for left, text in rows)


def _consistent(options: SweepOptions) -> SweepOptions:
    """`options`, if they go together."""
    if not options.objective:
        raise ConfigError("objective= is empty; valid: hypervolume, sa@LAM, ra@LAM, train_flops, seconds, or several")
    if len(options.reference) != 2:
        raise ConfigError(f"reference={','.join(map(str, options.reference))}: expected SA,RA, such as 0.1,0")
    if len(options.objective) > 1 and options.scheduler != "none":
        count = len(options.objective)
        raise ConfigError(f"scheduler={options.scheduler}: compares by one objective, here are {count}")
    if options.scheduler == "pbt" and options.search != "random":
        raise ConfigError(f"scheduler=pbt search={options.search}: pbt changes settings itself; valid: search=random")
    for name in ("search", "scheduler"):
        keyword_arguments(f"{name}_options", getattr(options, f"{name}_options"))
    return options
