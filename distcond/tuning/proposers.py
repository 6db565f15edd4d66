"""What a sweep tries: settings at random, on a grid, by a list, or by a function of one's own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from distcond.errors import ConfigError
from distcond.seeding import generator
from distcond.tuning.space import Space

Drawn = dict[str, Any]

#: Points that a grid is refused beyond: it was meant otherwise.
MOST = 10_000

#: Draws for one trial. When so many have given nothing new, a space is taken to hold nothing more.
DRAWS = 100


class Proposer(Protocol):
    """Gives trial after trial. Told in the same order, it proposes the same."""

    def propose(self, number: int, again: int = 0) -> Drawn | None:
        """The settings of trial `number`; None where there are no more.

        `again`: how many proposals for this trial there are as other trials already; it gives another one.
        """

    def memory(self, number: int) -> Mapping[str, Any]:
        """What a later process needs to know of trial `number` besides its settings, as plain values."""

    def again(self, number: int, memory: Mapping[str, Any]) -> None:
        """Trial `number` was proposed by an earlier process, which left `memory`."""

    def tell(self, number: int, values: Sequence[float], epochs: int, whole: bool) -> None:
        """What trial `number` came to after `epochs`; empty values = it failed; not `whole` = it was stopped early."""


class Forgetful:
    """A proposer to which outcomes mean nothing."""

    def memory(self, number: int) -> Mapping[str, Any]:
        return {}

    def again(self, number: int, memory: Mapping[str, Any]) -> None:
        """Nothing depends on it."""

    def tell(self, number: int, values: Sequence[float], epochs: int, whole: bool) -> None:
        """Nothing depends on it."""


class Random(Forgetful):
    """Each trial is a function of the seed and its number: nothing needs to be remembered."""

    def __init__(self, space: Space, seed: int, function: Callable[[torch.Generator], Drawn] | None = None) -> None:
        self.space, self.seed, self.function = space, seed, function

    def propose(self, number: int, again: int = 0) -> Drawn | None:
        if again >= DRAWS:
            return None
        source = generator(self.seed, "trial", number, *([again] if again else []))
        return drawn_by(self.function, source) if self.function else draw(self.space, source)


class Listed(Forgetful):
    """The points of a list, in its order."""

    def __init__(self, points: Sequence[Drawn]) -> None:
        self.points = points

    def propose(self, number: int, again: int = 0) -> Drawn | None:
        at = number + again  # what was there already is passed by
        return self.points[at] if at < len(self.points) else None


def draw(space: Space, source: torch.Generator) -> Drawn:
    """One random proposal."""
    drawn: Drawn = {}
    for axis in space.axes:
        # Drawn in any case: what one axis gives does not move the others.
        value = axis.draw(source)
        if axis.exists(drawn):
            drawn[axis.path] = value
    return drawn


def grid(space: Space, points: int) -> list[Drawn]:
    """Every combination, each once.

    Raises:
        ConfigError: more than `MOST`.
    """
    combinations: list[Drawn] = [{}]
    for axis in space.axes:
        values = axis.grid(points)
        combinations = [
            {**found, axis.path: value} if axis.exists(found) else found
            for found, value in itertools.product(combinations, values)
        ]
        combinations = list({json.dumps(found): found for found in combinations}.values())
        if len(combinations) > MOST:
            raise ConfigError(f"search=grid: more than {MOST} combinations; fewer points= or another search")
    return combinations


def drawn_by(function: Callable[..., Any], source: Any) -> Drawn:
    """What a function of a user's proposes.

    Raises:
        ConfigError: it raises, or gives no settings.
    """
    try:
        drawn = function(source)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"the space's function raised {type(error).__name__}: {line}") from error
    if not isinstance(drawn, Mapping) or not drawn:
        raise ConfigError(f"the space's function gave {drawn!r}; expected settings such as {{'optim.lr': 0.1}}")
    return dict(drawn)
