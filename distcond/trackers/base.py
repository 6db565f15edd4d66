"""The interface of an experiment tracker, and the names of the metrics it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from distcond.errors import ConfigError


class RunInfo(NamedTuple):
    """The run that is shown.

    Attributes:
        path: its directory.
        name: its run_id.
        mark: tells it from other runs of that name, as below another root; empty for one begun by an older distcond.
        settings: its config by dotted path.
        after: the last epoch that an earlier start has handed over, 0 = none; the next one handed over is later.
    """

    path: Path
    name: str
    mark: str
    settings: Mapping[str, Any]
    after: int

    @property
    def identity(self) -> str:
        """What no other run has."""
        return f"{self.name} {self.mark}".rstrip()


class TrackedRun(Protocol):
    """One run in a tool. Every method may raise anything: the run goes on without the tool."""

    def write(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep what was measured after so many epochs."""

    def close(self) -> None:
        """Nothing more comes from this start; another one may go on."""


@dataclass(frozen=True)
class Tracker:
    """A tool.

    Attributes:
        name: what `sinks=` calls it.
        summary: one line.
        module: what is imported; it tells whether the tool is there.
        install: what pip installs.
        open: begin or go on with a run.
    """

    name: str
    summary: str
    module: str
    install: str
    open: Callable[[RunInfo], TrackedRun]

    def check(self) -> None:
        """Raise ConfigError if the tool's package is missing."""
        if find_spec(self.module) is None:
            raise ConfigError(f"sinks={self.name}: {self.module} is not installed; pip install {self.install}")


_NAMES = {
    "train_loss": "train/loss",
    "train_sa": "train/sa",
    "train_ra": "train/ra",
    "lr": "train/lr",
    "train_flops": "train/flops",
    "images_per_second": "time/images_per_second",
    "seconds": "time/seconds",
    "val_score": "val/score",
}


def epoch_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """`train/loss`, `val/sa at lam 0.2`, `time/share attack`, ...: what the record holds that is a number."""
    found: dict[str, Any] = {name: record.get(key) for key, name in _NAMES.items()}
    found |= {f"time/share {part}": share for part, share in (record.get("shares") or {}).items()}
    found |= point_metrics("val", record.get("val") or [])
    return {name: float(value) for name, value in found.items() if value is not None}


def point_metrics(split: str, points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """SA and RA at every operating point."""
    several = len({point.get("width") for point in points}) > 1
    found = dict[str, float]()
    for point in points:
        at = f"at lam {point['lam']:g}" + (f" width {point['width']:g}" if several else "")
        found |= {f"{split}/{kind} {at}": point[kind] for kind in ("sa", "ra") if kind in point}
    return found
