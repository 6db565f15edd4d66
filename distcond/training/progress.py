"""Writes and reads `progress.json`: how far a run is, in one small file, the same under every launcher."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from distcond.atomic_io import read_json, write_json
from distcond.errors import ConfigError
from distcond.methods.stopwatch import NULL_TIMER, Stopwatch
from distcond.run_layout import PROGRESS_FILE
from distcond.training.eta import EtaEstimator

#: Seconds between two looks at the device: more often would make the host wait for it.
INTERVAL = 1.0


class ProgressWriter:
    """Writes `progress.json` about once a second; only then is a number brought from the device to the host."""

    def __init__(
        self,
        run_path: Path,
        epochs: int,
        steps: int,
        batch_size: int,
        active: bool,
        pace: EtaEstimator | None = None,
        watch: Stopwatch = NULL_TIMER,
    ) -> None:
        self.file, self.active = run_path / PROGRESS_FILE, active
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.pace, self.watch = pace or EtaEstimator(epochs, steps), watch
        self.note: Callable[[], str] = str  # what whoever watches should know while the run goes on
        self._time, self._steps = time.monotonic(), 0
        self._written_at = self._time
        self._epoch_began: float | None = None
        self._cold = True
        self.sweeping = 0.0  # seconds of the sweeps since then

    def step(self, epoch: int, step: int, loss: Tensor) -> None:
        """After each step; cheap unless the interval is over."""
        self._steps += 1
        if not self.active or time.monotonic() - self._written_at < INTERVAL:
            return
        value = float(loss)
        seconds = time.monotonic() - self._time
        if not (self._cold and self._steps == 1 < self.steps):  # the very first step says nothing about the others
            self.pace.record_steps(self._steps, seconds)
        self._cold = False
        speed = self._steps * self.batch_size / seconds
        self.write("train", epoch=epoch, step=step, loss=value, images_per_second=speed, shares=self.watch.shares())
        self._time, self._steps = time.monotonic(), 0
        self._written_at = self._time

    def idle(self) -> None:
        """What comes until the next step is none of the steps' time."""
        self._time, self._steps = time.monotonic(), 0

    def begin_epoch(self, step: int) -> None:
        """An epoch begins, or goes on at `step`; the one before is over, with all that came after its steps."""
        now = time.monotonic()
        if self._epoch_began is not None:
            self.pace.epoch(max(now - self._epoch_began - self.sweeping, 1e-6))
        self._epoch_began, self.sweeping = now if step == 0 else None, 0.0
        self.idle()

    def write(self, stage: str, **values: Any) -> None:
        """Write what is being done: stage "train", "validate", "test", "stopped" or "finished"."""
        if not self.active:
            return
        said = {"stage": stage, "epochs": self.epochs, "steps": self.steps, "time": time.time(), **values}
        estimate = self._left(stage, values)
        if estimate is not None:
            said |= {"done": estimate[0], "seconds_left": estimate[1]}
        said["storage"] = self.note() or None
        write_json(self.file, {name: value for name, value in said.items() if value is not None})

    def _left(self, stage: str, values: dict[str, Any]) -> tuple[float, float] | None:
        if stage not in ("train", "validate", "test"):
            return None
        step = {"train": values.get("step", -1) + 1, "validate": self.steps}.get(stage, 0)
        return self.pace.estimate(stage, values.get("epoch", 0), step, values.get("share", 0.0))


class SweepProgress:
    """How much of a sweep is done, by this rank's share of its rows, about once a second."""

    def __init__(self, progress: ProgressWriter, stage: str, epoch: int, rows: int) -> None:
        self.progress, self.stage, self.epoch, self.rows = progress, stage, epoch, max(rows, 1)
        self.done, self._time = 0, time.monotonic()
        self._began = self._time
        progress.write(stage, epoch=epoch)

    def __call__(self, rows: int) -> None:
        """After each block of `rows` rows."""
        self.done += rows
        if self.done >= self.rows:  # short ones tell how long a sweep takes, too
            seconds = time.monotonic() - self._began
            self.progress.pace.record_sweep(self.stage, 1.0, seconds)
            self.progress.sweeping += seconds
        if time.monotonic() - self._time > INTERVAL:
            self._time, share = time.monotonic(), min(1.0, self.done / self.rows)
            self.progress.pace.record_sweep(self.stage, share, self._time - self._began)
            self.progress.write(self.stage, epoch=self.epoch, share=share)


def read_progress(run_path: Path) -> dict[str, Any] | None:
    """The last word of a run, or None before its first.

    Raises:
        ConfigError: the file is damaged.
    """
    file = run_path / PROGRESS_FILE
    progress = read_json(file) if file.exists() else None
    if progress is not None and not (isinstance(progress, dict) and {"stage", "epochs"} <= progress.keys()):
        raise ConfigError(f"{file}: damaged, not what a run writes; delete it")
    return progress
