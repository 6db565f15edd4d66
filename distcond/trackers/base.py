"""Tracker: the interface of an experiment tracker, and the names of the metrics it receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from distcond.errors import ConfigError


class RunInfo(NamedTuple):
    """The run to track.

    Attributes:
        path: its directory.
        name: its run ID.
        mark: distinguishes it from runs with the same ID below another root; empty for runs of older versions.
        settings: its config, {dotted path: value}.
        after: the last epoch that was sent by an earlier start; 0 = none.
    """

    path: Path
    name: str
    mark: str
    settings: Mapping[str, Any]
    after: int

    @property
    def identity(self) -> str:
        """Unique among all runs."""
        return f"{self.name} {self.mark}".rstrip()


class TrackedRun(Protocol):
    """One run in a tool. Methods may raise any exception: the training continues without the tool."""

    def write(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of an epoch."""

    def close(self) -> None:
        """Finish this start. A later start may resume the run."""


@dataclass(frozen=True)
class Tracker:
    """A tracking tool.

    Attributes:
        name: its name in `sinks=`.
        summary: one line.
        module: the module to import; without it the tool is not installed.
        install: arguments of `pip install`.
        open: starts or resumes a run.
    """

    name: str
    summary: str
    module: str
    install: str
    open: Callable[[RunInfo], TrackedRun]

    def check(self) -> None:
        """Raises ConfigError if the tool is not installed."""
        if find_spec(self.module) is None:
            raise ConfigError(f"sinks={self.name}: {self.module} is not installed; pip install {self.install}")


#: Key of a history record -> name of the metric.
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
    """The numbers in a history record by name: `train/loss`, `val/sa at lam 0.2`, `time/share attack`, ..."""
    metrics: dict[str, Any] = {name: record.get(key) for key, name in _NAMES.items()}
    metrics |= {f"time/share {part}": share for part, share in (record.get("shares") or {}).items()}
    metrics |= point_metrics("val", record.get("val") or [])
    return {name: float(value) for name, value in metrics.items() if value is not None}


def point_metrics(split: str, points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """SA and RA in [0, 1] at every operating point, such as `test/ra at lam 0.2`."""
    several = len({point.get("width") for point in points}) > 1
    metrics = dict[str, float]()
    for point in points:
        position = f"at lam {point['lam']:g}" + (f" width {point['width']:g}" if several else "")
        metrics |= {f"{split}/{kind} {position}": point[kind] for kind in ("sa", "ra") if kind in point}
    return metrics
