"""Why the weights of `init_from` do not fit the model, in one line, and which model they would fit."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Literal

from distcond.config.schema import Options
from distcond.engine.starting.plain_build import classifier, plain_build
from distcond.registry import lookup, table
from distcond.starting_points.match import Match, Ours, best_match
from distcond.starting_points.wrapping import Weights


def misfit(match: Match, weights: Weights, ours: Ours, model: Options) -> str:
    """What is wrong first, how much is right, and what to do about it."""
    convolutions = [name for name, tensor in ours.plain.items() if tensor.dim() == 4]
    right = sum(name in convolutions and name not in match.unfit and name not in match.missing for name in convolutions)
    what = _first(match, weights)
    how_much = f"{right} of {len(convolutions)} convolutions have one there, by the names of {match.convention}"
    return f"does not fit model={model.name}: {what} ({how_much}); {_instead(weights, ours, model)}"


def _first(match: Match, weights: Weights) -> str:
    if not match.copies and not match.unfit:
        return f"none of its {len(weights.tensors)} names is known, such as {next(iter(weights.tensors))}"
    if match.unfit:
        name, (there, here) = next(iter(match.unfit.items()))
        return f"{name} is {there} there and {here} here"
    if match.missing:
        return f"nothing there for {match.missing[0]}"
    return f"nothing here for {match.beyond[0]}"


def _instead(weights: Weights, ours: Ours, model: Options) -> str:
    conventions = table("convention").values()
    for options, words in _candidates(model):
        network = plain_build(options, ours.plain[f"{ours.head}.weight"].shape[0])
        plain = network.state_dict()
        if best_match(Ours(plain, plain, classifier(network)), weights.tensors, conventions).fits:
            return f"{words} would"
    return "no model of this distcond does"


def _candidates(model: Options) -> Iterator[tuple[Options, str]]:
    """Networks to try and the settings that ask for them: this one's variants first, then every other's."""
    yield from _variants(model)
    for name, other in table("model").items():
        yield from _variants(dataclasses.replace(lookup("model", other.name).options, name=name))


def _variants(options: Options) -> Iterator[tuple[Options, str]]:
    """The options as they are, and with each other choice of each of their choices."""
    yield options, f"model={options.name}"
    hints = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        if typing.get_origin(hints[field.name]) is not Literal:
            continue
        for value in typing.get_args(hints[field.name]):
            if value != getattr(options, field.name):
                changed = dataclasses.replace(options, **{field.name: value})
                yield changed, f"model={options.name} model.{field.name}={value}"
