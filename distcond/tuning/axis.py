"""One dimension of a search space: a setting and the values it may take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from distcond.errors import ConfigError
from distcond.registry import describe_unknown

KINDS = ("uniform", "loguniform", "integer", "choice")
_KEYS = ("kind", "low", "high", "values", "when")

#: What population-based training multiplies a number by (Jaderberg et al. 2017).
FACTORS = (0.8, 1.2)


@dataclass(frozen=True)
class Axis:
    """A setting that varies.

    Attributes:
        path: dotted path in the config.
        kind: one of `KINDS`.
        low: the smallest number; unused by "choice".
        high: the largest one, included.
        values: what "choice" chooses from; a value may be a list, for settings that are tuples.
        when: path -> values: the axis exists only where the proposal has one of them there.
    """

    path: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[Any, ...] = ()
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def at(self, share: float) -> Any:
        """The value at `share` in [0, 1) of the way; every value of a choice has the same part of it."""
        if self.kind == "choice":
            return self.values[int(share * len(self.values))]
        if self.kind == "integer":
            return int(self.low) + int(share * (int(self.high) - int(self.low) + 1))
        if self.kind == "loguniform":
            # The exponential may round to beyond an end.
            drawn = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
            return min(max(drawn, self.low), self.high)
        return self.low + share * (self.high - self.low)

    def draw(self, source: torch.Generator) -> Any:
        """A random value."""
        return self.at(torch.rand((), generator=source, dtype=torch.float64).item())

    def grid(self, points: int) -> list[Any]:
        """Every value of a choice, or `points` numbers from one end to the other, at even steps of its scale."""
        if self.kind == "choice":
            return list(self.values)
        if self.kind == "integer":
            count = min(points, int(self.high) - int(self.low) + 1)
            return [round(self.low + (self.high - self.low) * i / max(count - 1, 1)) for i in range(count)]
        ends = [self.at(i / max(points - 1, 1)) for i in range(points)]
        return ends

    def moved(self, value: Any, source: torch.Generator) -> Any:
        """A value near `value`: a number times one of `FACTORS`, kept within the ends; the next or last choice."""
        up = torch.rand((), generator=source).item() < 0.5
        if self.kind == "choice":
            index = self.values.index(value) + (1 if up else -1)
            return self.values[min(max(index, 0), len(self.values) - 1)]
        number = min(max(value * FACTORS[up], self.low), self.high)
        return round(number) if self.kind == "integer" else number

    def exists(self, proposal: Mapping[str, Any]) -> bool:
        """Whether a proposal has what the axis needs."""
        return all(proposal.get(path) in values for path, values in self.when)

    def to_plain(self) -> dict[str, Any]:
        """As it stands in a file."""
        ends = {"values": list(self.values)} if self.kind == "choice" else {"low": self.low, "high": self.high}
        when = {"when": {path: list(values) for path, values in self.when}} if self.when else {}
        return {"kind": self.kind, **ends, **when}


def read_axis(path: str, entry: Any) -> Axis:
    """The axis of an entry of a space's file.

    Raises:
        ConfigError: an unknown kind or word, an empty choice, ends that are no numbers or the wrong way round.
    """
    where = f"space {path}"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: expected a table with kind = one of {', '.join(KINDS)}")
    for word in entry:
        if word not in _KEYS:
            raise ConfigError(f"{where}: {describe_unknown('word', word, _KEYS)}")
    kind = entry.get("kind", "")
    if kind not in KINDS:
        raise ConfigError(f"{where}: {describe_unknown('kind', str(kind), KINDS)}")
    when = tuple((at, tuple(one if isinstance(one, list) else [one])) for at, one in entry.get("when", {}).items())
    if kind == "choice":
        values = entry.get("values")
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{where}: values is empty; give a list with at least one value")
        return Axis(path, kind, values=tuple(values), when=when)
    low, high = (_number(where, name, entry.get(name)) for name in ("low", "high"))
    if not low <= high:
        raise ConfigError(f"{where}: low={low:g} is above high={high:g}; exchange them")
    if kind == "loguniform" and low <= 0:
        raise ConfigError(f"{where}: low={low:g}: a logarithm needs low above 0; or kind = uniform")
    if kind == "integer" and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{where}: low={low:g} high={high:g}: expected whole numbers")
    return Axis(path, kind, low, high, when=when)


def _number(where: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}: {name}={value}: expected a number")
    return float(value)
