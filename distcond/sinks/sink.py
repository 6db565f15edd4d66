"""What a tool that shows runs has to offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from distcond.errors import ConfigError


class Subject(NamedTuple):
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


class Writer(Protocol):
    """One run in a tool. Every method may raise anything: the run goes on without the tool."""

    def write(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep what was measured after so many epochs."""

    def close(self) -> None:
        """Nothing more comes from this start; another one may go on."""


@dataclass(frozen=True)
class Sink:
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
    open: Callable[[Subject], Writer]

    def check(self) -> None:
        """Raise ConfigError if the tool's package is missing."""
        if find_spec(self.module) is None:
            raise ConfigError(f"sinks={self.name}: {self.module} is not installed; pip install {self.install}")
