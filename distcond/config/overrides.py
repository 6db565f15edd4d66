"""One way to change a config, for the command line, Tune, SLURM and recipes alike: {dotted path: value}."""

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

#: Groups whose type is brought by the value they name.
NAMED_GROUPS = ("method", "model", "sampler")


def resolve(recipe: str, overrides: Mapping[str, Any]) -> Config:
    """The config of a recipe with overrides applied, every setting typed and within its bounds.

    Raises:
        ConfigError: unknown recipe, path or value; the message names the valid choices.
    """
    if "recipe" in overrides:
        raise ConfigError(f"recipe={overrides['recipe']}: a recipe is named by itself, not as a setting of {recipe}")
    settings = {"recipe": recipe, **lookup("recipe", recipe).settings}
    # The recipe's own method or network named again is no other one: the options that the recipe gives it stay.
    again = {path for path, value in overrides.items() if _is_choice(path) and value == _own(settings, path)}
    changes = {path: value for path, value in overrides.items() if path not in again}
    return apply_overrides(apply_overrides(Config(), settings), changes)


def apply_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """`config` with each dotted path set. A group's bare name sets its `name` (`method=oat`, `launch=local`).

    A method that is named brings its own sampler and `eval.lam_grid`, and one with a single path the dial that it has;
    where `overrides` have them too, theirs hold. An `eval.lam_grid` alone means the dial that it belongs to, a switch.
    """
    named = {path.removesuffix(".name"): value for path, value in overrides.items() if _is_choice(path)}
    for kind in NAMED_GROUPS:
        if kind in named:
            chosen: dict[str, Any] = {kind: _options(kind, named[kind])}
            config = dataclasses.replace(config, **chosen)
    if "method" in named:
        config = _with_defaults_of_method(config, "sampler" not in named)
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
    """Refuse settings that a user names and that the rule of the dial, `eval.dial`, does not use.

    Args:
        config: with all settings applied.
        given: dotted paths of the settings that the command names.

    Raises:
        ConfigError: one of them would change nothing.
    """
    switch = config.eval.dial == "switch"
    # Whoever hands on all settings of a run names these, too, as they are anyway.
    usual = EvalConfig(lam_grid=lookup("method", config.method.name).default_grid)
    for name in ("dial_grid", "dial_lam") if switch else ("lam_grid",):
        path = f"eval.{name}"
        if path in given and getattr(config.eval, name) != getattr(usual, name):
            pair = config.method.name == "pair"
            blends = ", ".join(blend for blend in BLENDS[1:] if pair or blend not in PAIR_BLENDS)
            valid = f"eval.dial={blends}" if switch else "eval.dial_grid, or eval.dial=switch"
            raise ConfigError(f"{path}: changes nothing with eval.dial={config.eval.dial}; valid: {valid}")


def settings_of(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every leaf of a config as (dotted path, value, help line), in declaration order."""
    types = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings_of(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, _with_choices(field.metadata.get("help", ""), types[field.name])


def to_settings(config: Config) -> dict[str, Any]:
    """A config as {dotted path: plain value}; `from_settings` gives it back."""
    return {path: list(value) if isinstance(value, tuple) else value for path, value, _ in settings_of(config)}


def from_settings(settings: Mapping[str, Any]) -> Config:
    """The config written by `to_settings`; settings of a later version are refused by name."""
    return apply_overrides(Config(), settings)


def _with_choices(line: str, annotation: Any) -> str:
    """A help line that says which values there are, where they are few and it does not name them itself."""
    choices = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    return line if not line or all(word in line for word in choices) else f"{line}; one of {', '.join(choices)}"


def _is_choice(path: str) -> bool:
    return path.removesuffix(".name") in (*NAMED_GROUPS, "data", "launch")


def _own(settings: Mapping[str, Any], path: str) -> Any:
    return settings.get(path.removesuffix(".name")) if path.removesuffix(".name") in NAMED_GROUPS else None


def _options(kind: str, name: str) -> Options:
    options: Options = lookup(kind, str(name)).options
    return dataclasses.replace(options, name=str(name))


def _with_defaults_of_method(config: Config, sampler: bool) -> Config:
    """`config` with the lam grid of its method, a dial that the method has, and with its sampler."""
    method = lookup("method", config.method.name)
    dial = config.eval.dial if method.has_two_paths(config.method) else "switch"
    own = dataclasses.replace(config.eval, lam_grid=method.default_grid, dial=dial)
    config = dataclasses.replace(config, eval=own)
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
            raise ConfigError(f"{path} is a group: set one of {', '.join(choices)}")
        return dataclasses.replace(node, **{head: _set(current, rest or ["name"], value, path)})
    if rest:
        raise ConfigError(f"{path}: {'.'.join(path.split('.')[: -len(rest)])} is a single value, without parts")
    parsed = parse_value(path, value, typing.get_type_hints(type(node))[head])
    check_bounds(path, parsed, fields[head].metadata)
    return dataclasses.replace(node, **{head: parsed})


def _unknown_setting(path: str, remaining: int, node: Any) -> str:
    """One line for a path whose last `remaining` parts lead nowhere in `node`."""
    parts = path.split(".")
    known, wrong = parts[: len(parts) - remaining], parts[-remaining]
    prefix = "".join(f"{part}." for part in known)
    # Who leaves a group out, as in lr=0.1, means one of those.
    deeper = [prefix + inner for inner, _, _ in settings_of(node) if inner.endswith(f".{wrong}")]
    names = [prefix + field.name for field in dataclasses.fields(node)]
    return describe_unknown("setting", prefix + wrong, names, deeper)
