"""Overrides {dotted path: value}: the one way to change a config, for the command line, Tune, SLURM and recipes."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Container, Iterator, Mapping
from typing import Any

from distcond.config.fields import check_bounds, parse_value
from distcond.config.schema import Config, EvalConfig, Options
from distcond.errors import ConfigError
from distcond.operating_point import BLENDS, PAIR_BLENDS
from distcond.registry import describe_unknown, lookup

#: Groups whose options have the type that belongs to the named value.
NAMED_GROUPS = ("method", "model", "sampler")


def resolve(recipe: str, overrides: Mapping[str, Any]) -> Config:
    """The config of a recipe with overrides applied, every setting parsed and within its bounds.

    Raises:
        ConfigError: unknown recipe, setting or value; the message names the valid choices.
    """
    if "recipe" in overrides:
        raise ConfigError(f"recipe={overrides['recipe']}: not a setting of recipe {recipe}; name one recipe")
    settings = {"recipe": recipe, **lookup("recipe", recipe).settings}
    # Naming the recipe's own method or model again keeps the options that the recipe sets for it.
    unchanged = {path for path, value in overrides.items() if _is_choice(path) and value == _named_in(settings, path)}
    changes = {path: value for path, value in overrides.items() if path not in unchanged}
    return apply_overrides(apply_overrides(Config(), settings), changes)


def apply_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """`config` with each dotted path set. A group's bare name sets its `name` (`method=oat`, `launch=local`).

    Naming a method also sets its default sampler and `eval.lam_grid`, and for a method with one path
    `eval.dial=switch`, unless `overrides` set them, too. `eval.lam_grid` alone implies `eval.dial=switch`.

    Raises:
        ConfigError: unknown setting or value.
    """
    named = {path.removesuffix(".name"): value for path, value in overrides.items() if _is_choice(path)}
    for kind in NAMED_GROUPS:
        if kind in named:
            chosen: dict[str, Any] = {kind: _options(kind, named[kind])}
            config = dataclasses.replace(config, **chosen)
    if "method" in named:
        config = _with_method_defaults(config, "sampler" not in named)
    if "eval.lam_grid" in overrides:
        overrides = {"eval.dial": "switch", **overrides}
    if "data" in named:
        lookup("data", str(named["data"]))
    for path, value in overrides.items():
        if path.removesuffix(".name") in NAMED_GROUPS and _is_choice(path):
            continue
        config = _set(config, path.split("."), value, path)
    return config


def check_dial(config: Config, given: Container[str]) -> None:
    """Check that `eval.dial` uses all grid settings that the user set.

    Args:
        config: with all settings applied.
        given: dotted paths of the settings that the user set.

    Raises:
        ConfigError: one of them would have no effect.
    """
    switch = config.eval.dial == "switch"
    # A caller that passes on all settings of a run sets these, too, at their defaults.
    default = EvalConfig(lam_grid=lookup("method", config.method.name).default_grid)
    for name in ("dial_grid", "dial_lam") if switch else ("lam_grid",):
        path = f"eval.{name}"
        if path in given and getattr(config.eval, name) != getattr(default, name):
            pair = config.method.name == "pair"
            blends = ", ".join(blend for blend in BLENDS[1:] if pair or blend not in PAIR_BLENDS)
            valid = f"eval.dial={blends}" if switch else "eval.dial_grid, or eval.dial=switch"
            raise ConfigError(f"{path}: changes nothing with eval.dial={config.eval.dial}; valid: {valid}")


def settings_of(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting of a config as (dotted path, value, help line), in order of declaration."""
    types = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings_of(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, _with_choices(field.metadata.get("help", ""), types[field.name])


def to_settings(config: Config) -> dict[str, Any]:
    """A config as {dotted path: plain value}, the inverse of `from_settings`."""
    return {path: list(value) if isinstance(value, tuple) else value for path, value, _ in settings_of(config)}


def from_settings(settings: Mapping[str, Any]) -> Config:
    """The config of settings written by `to_settings`.

    Raises:
        ConfigError: a setting is unknown, such as one of a later version.
    """
    return apply_overrides(Config(), settings)


def _with_choices(line: str, annotation: Any) -> str:
    """A help line with the values of an enumerated setting appended, unless it names them itself."""
    choices = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    return line if not line or all(choice in line for choice in choices) else f"{line}; one of {', '.join(choices)}"


def _is_choice(path: str) -> bool:
    return path.removesuffix(".name") in (*NAMED_GROUPS, "data", "launch")


def _named_in(settings: Mapping[str, Any], path: str) -> Any:
    return settings.get(path.removesuffix(".name")) if path.removesuffix(".name") in NAMED_GROUPS else None


def _options(kind: str, name: str) -> Options:
    options: Options = lookup(kind, str(name)).options
    return dataclasses.replace(options, name=str(name))


def _with_method_defaults(config: Config, sampler: bool) -> Config:
    """`config` with the lam grid of its method, a dial that the method supports, and if `sampler` its sampler."""
    method = lookup("method", config.method.name)
    dial = config.eval.dial if method.has_two_paths(config.method) else "switch"
    evaluation = dataclasses.replace(config.eval, lam_grid=method.default_grid, dial=dial)
    config = dataclasses.replace(config, eval=evaluation)
    return dataclasses.replace(config, sampler=method.sampler) if sampler else config


def _set(node: Any, parts: list[str], value: Any, path: str) -> Any:
    """A copy of the frozen dataclass `node` with the setting at `parts` replaced."""
    fields = {field.name: field for field in dataclasses.fields(node)}
    head, rest = parts[0], parts[1:]
    if head not in fields:
        raise ConfigError(_unknown_setting(path, len(parts), node))
    current = getattr(node, head)
    if dataclasses.is_dataclass(current):
        if not rest and "name" not in {field.name for field in dataclasses.fields(current)}:
            choices = [f"{path}.{field.name}" for field in dataclasses.fields(current)]
            raise ConfigError(f"{path} is a group; set one of {', '.join(choices)}")
        return dataclasses.replace(node, **{head: _set(current, rest or ["name"], value, path)})
    if rest:
        raise ConfigError(f"{path}: {'.'.join(path.split('.')[: -len(rest)])} is a single value without sub-settings")
    parsed = parse_value(path, value, typing.get_type_hints(type(node))[head])
    check_bounds(path, parsed, fields[head].metadata)
    return dataclasses.replace(node, **{head: parsed})


def _unknown_setting(path: str, remaining: int, node: Any) -> str:
    """One line for a path whose last `remaining` parts do not exist in `node`."""
    parts = path.split(".")
    known, wrong = parts[: len(parts) - remaining], parts[-remaining]
    prefix = "".join(f"{part}." for part in known)
    # Suggest settings whose group was left out, as in lr=0.1.
    nested = [prefix + inner for inner, _, _ in settings_of(node) if inner.endswith(f".{wrong}")]
    names = [prefix + field.name for field in dataclasses.fields(node)]
    return describe_unknown("setting", prefix + wrong, names, nested)
