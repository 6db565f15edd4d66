"""One trial of a sweep, as it stands in its file: what was drawn, how far its run is, what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

#: Waiting for its next leg; being trained; ended by the schedule; ended by itself; left behind.
STATES = ("waiting", "running", "stopped", "finished", "failed")


@dataclass(frozen=True)
class Trial:
    """A proposal and what became of it. A trial is trained in legs: from checkpoint to checkpoint.

    Attributes:
        number: 0, 1, ... in the order of proposing.
        drawn: settings by dotted path, as proposed; after an exploit, as they are now.
        state: one of `STATES`.
        run: its run directory, relative to the sweep's.
        until: epochs after which its leg ends; 0 = the whole run.
        epochs: epochs trained.
        values: the objectives so far; empty before the first validation.
        curve: (epochs trained, *values) at each end of an epoch with values.
        flops: training FLOPs spent by this trial.
        seconds: of training and validation.
        error: why it failed, one line.
        tries: legs that died without a word.
        memory: what the search needs to remember of it.
        lineage: for every exploit {"epoch", "trial", "run", "drawn", "flops", "seconds", "inherited"}: from whom (the
            donor's trial, run and training FLOPs), and what this trial was and had spent before.
    """

    number: int
    drawn: Mapping[str, Any]
    state: str = "waiting"
    run: str = ""
    until: int = 0
    epochs: int = 0
    values: tuple[float, ...] = ()
    curve: tuple[tuple[float, ...], ...] = ()
    flops: float = 0.0
    seconds: float = 0.0
    error: str = ""
    tries: int = 0
    memory: Mapping[str, Any] = field(default_factory=dict)
    lineage: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    def value_at(self, epochs: int) -> float | None:
        """The first objective after so many epochs, or at the last validation before."""
        known = [point for point in self.curve if point[0] <= epochs]
        return known[-1][1] if known else None


def from_plain(plain: Mapping[str, Any]) -> Trial:
    """The trial that `plain` gave."""
    told = dict(plain)
    told["values"] = tuple(told["values"])
    told["curve"] = tuple(tuple(point) for point in told["curve"])
    told["lineage"] = tuple(told["lineage"])
    return Trial(**told)


class Leg(NamedTuple):
    """What is to be done next: train a trial's run up to so many epochs, 0 = to its end, tested and all."""

    number: int
    until: int


class Outcome(NamedTuple):
    """What a leg gave; `error` is one line, or empty; `again` = the same once more may go well."""

    curve: tuple[tuple[float, ...], ...] = ()
    epochs: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    finished: bool = False
    error: str = ""
    again: bool = False


def outcome_of(plain: Mapping[str, Any]) -> Outcome:
    """The outcome whose `_asdict` went through JSON."""
    return Outcome(**{**plain, "curve": tuple(tuple(point) for point in plain["curve"])})
