"""What a file of this room exports: how one family of checkpoints names its tensors, as data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

#: The numbers in a module's name, such as (stage, index).
Position = tuple[int, ...]


class Rule(NamedTuple):
    """One module there and here.

    Attributes:
        pattern: of the module's whole name there; its groups `stage` and `index` are the module's position.
        name: of the module in the plain build of a model; `{block}` and what else `Convention.places` gives stand for
            the position, other groups of the pattern for themselves.
        dims: where given, only modules whose weight has this many dimensions; positions are counted among these alone.
    """

    pattern: str
    name: str
    dims: int | None = None


Hit = tuple[Rule, re.Match[str]]


def in_order(positions: Sequence[Position]) -> list[dict[str, int]]:
    """Blocks counted through all stages: the `{block}` of each position."""
    return [{"block": number} for number in range(len(positions))]


@dataclass(frozen=True)
class Convention:
    """A way to name tensors. `places` turns the sorted positions of a checkpoint into the numbers that names here have.

    The first rule that fits a name counts. `raw_pixels` says that networks with these names take pixels of [0, 1] as
    they are.
    """

    name: str
    summary: str
    rules: tuple[Rule, ...]
    places: Callable[[Sequence[Position]], Sequence[Mapping[str, int]]] = in_order
    raw_pixels: bool = False

    def translate(self, theirs: Mapping[str, Tensor]) -> dict[str, str]:
        """{name there: name here} of the tensors that a rule knows."""
        found = {name: self._rule(name, theirs) for name in theirs}
        known = {name: hit for name, hit in found.items() if hit is not None}
        numbers = {dims: self._numbers(known.values(), dims) for dims in {rule.dims for rule, _ in known.values()}}
        return {
            name: rule.name.format(**{**match.groupdict(), **numbers[rule.dims][_position(match)]}) + _tensor(name)
            for name, (rule, match) in known.items()
        }

    def _rule(self, name: str, theirs: Mapping[str, Tensor]) -> Hit | None:
        module = name.removesuffix(_tensor(name))
        weight = theirs.get(f"{module}.weight")
        for rule in self.rules:
            match = re.fullmatch(rule.pattern, module)
            if match and (rule.dims is None or (weight is not None and weight.dim() == rule.dims)):
                return rule, match
        return None

    def _numbers(self, hits: Iterable[Hit], dims: int | None) -> dict[Position, Mapping[str, int]]:
        """The numbers of every position; of none, where a name has no number."""
        positions = sorted({_position(match) for rule, match in hits if rule.dims == dims} - {()})
        numbers: dict[Position, Mapping[str, int]] = {(): {}}
        return numbers | dict(zip(positions, self.places(positions), strict=True))


def _position(match: re.Match[str]) -> Position:
    groups = match.groupdict()
    return tuple(int(groups[name]) for name in ("stage", "index") if name in groups)


def _tensor(name: str) -> str:
    """`.weight` of `layer1.0.conv1.weight`."""
    return "." + name.rpartition(".")[2]
