"""Explains in one line why the weights of `init_from` do not fit: other shapes, or classes in another order."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from distcond.config.schema import Config, Options
from distcond.data.labels import LEXICOGRAPHIC, NATURAL, orders_differ
from distcond.data.prepare import class_names
from distcond.errors import ConfigError
from distcond.init_from.matching import Match, TargetNetwork, best_match
from distcond.init_from.weights_file import Weights
from distcond.registry import lookup, table
from distcond.runs.build import classifier_name, reference_model


def explain_mismatch(match: Match, weights: Weights, ours: TargetNetwork, model: Options) -> str:
    """One line: the first difference, how many convolutions match, and a model that would fit."""
    convolutions = [name for name, tensor in ours.plain.items() if tensor.dim() == 4]
    matched = sum(name not in match.mismatches and name not in match.missing for name in convolutions)
    difference = _first_difference(match, weights)
    count = f"{matched} of {len(convolutions)} convolutions match, by the names of {match.convention}"
    return f"does not fit model={model.name}: {difference} ({count}); {_suggest_model(weights, ours, model)}"


def _first_difference(match: Match, weights: Weights) -> str:
    if not match.copies and not match.mismatches:
        return f"none of its {len(weights.tensors)} names is known, such as {next(iter(weights.tensors))}"
    if match.mismatches:
        name, (there, here) = next(iter(match.mismatches.items()))
        return f"{name} is {there} there and {here} here"
    if match.missing:
        return f"nothing there for {match.missing[0]}"
    return f"nothing here for {match.extra[0]}"


def _suggest_model(weights: Weights, ours: TargetNetwork, model: Options) -> str:
    conventions = table("convention").values()
    for options, settings in _candidates(model):
        network = reference_model(options, ours.plain[f"{ours.head}.weight"].shape[0])
        plain = network.state_dict()
        if best_match(TargetNetwork(plain, plain, classifier_name(network)), weights.tensors, conventions).fits:
            return f"{settings} would fit"
    return "no model of this distcond fits"


def _candidates(model: Options) -> Iterator[tuple[Options, str]]:
    """Models to try, with the settings that select them: variants of this one first, then all others."""
    yield from _variants(model)
    for name, other in table("model").items():
        yield from _variants(dataclasses.replace(lookup("model", other.name).options, name=name))


def _variants(options: Options) -> Iterator[tuple[Options, str]]:
    """The options as they are, then with each other value of each of their enumerated settings."""
    yield options, f"model={options.name}"
    hints = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        if typing.get_origin(hints[field.name]) is not Literal:
            continue
        for value in typing.get_args(hints[field.name]):
            if value != getattr(options, field.name):
                changed = dataclasses.replace(options, **{field.name: value})
                yield changed, f"model={options.name} model.{field.name}={value}"


def class_order_note(weights: Weights, config: Config) -> str:
    """A note on the class order of a classifier that is copied; "" if there is nothing to note.

    Raises:
        ConfigError: the checkpoint numbers the same classes in another order.
    """
    here, there, order = _class_names(config), weights.classes, config.data.class_order
    other = LEXICOGRAPHIC if order == NATURAL else NATURAL
    if not here or there == here:
        return ""
    if sorted(there) == sorted(here):
        _refuse(there, here, config, other)
    if there:
        return f"its classes are named {_first_names(there)}, ours {_first_names(here)}"
    if not orders_differ(here if order == NATURAL else _natural(config)):
        return ""
    return f"classes are in {order} order ({_first_names(here)}); if the checkpoint's are not: data.class_order={other}"


def _refuse(there: tuple[str, ...], here: tuple[str, ...], config: Config, other: str) -> None:
    number = next(n for n, (one, two) in enumerate(zip(there, here, strict=True)) if one != two)
    fix = "number the folders as there"
    if there == (tuple(sorted(here)) if other == LEXICOGRAPHIC else _natural(config)):
        fix = f"set data.class_order={other}"
    both = f"class {number} is {there[number]!r} there and {here[number]!r} here"
    raise ConfigError(f"init_from={config.init_from}: its classes are numbered in another order: {both}; {fix}")


def _class_names(config: Config) -> tuple[str, ...]:
    try:
        return class_names(config.data)
    except ConfigError:
        return ()  # no images here; the run itself raises


def _natural(config: Config) -> tuple[str, ...]:
    return class_names(replace(config.data, class_order=NATURAL))


def _first_names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
