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

#: Seconds between two reads of the loss. Reading it more often would make the host wait for the device.
INTERVAL = 1.0


class ProgressWriter:
    """Writes `progress.json` about once a second. Only then is the loss copied from the device.

    Args:
        run_path: the run directory.
        epochs: of the run.
        steps: per epoch.
        batch_size: images per step over all ranks.
        active: whether this rank writes.
        pace: estimates the time left.
        watch: times the parts of a step.

    Attributes:
        note: a function that returns a line for the file, such as a warning about storage; "" for none.
        sweeping: seconds of sweeps since the current epoch began.
    """

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
        self.note: Callable[[], str] = str
        self.sweeping = 0.0
        self._timer, self._steps = time.monotonic(), 0
        self._written_at = self._timer
        self._epoch_began: float | None = None
        self._cold = True

    def begin_epoch(self, step: int) -> None:
        """Start the clock of an epoch that begins or resumes at `step`, and record the time of the one before."""
        now = time.monotonic()
        if self._epoch_began is not None:
            self.pace.record_epoch(max(now - self._epoch_began - self.sweeping, 1e-6))
        self._epoch_began, self.sweeping = now if step == 0 else None, 0.0
        self._timer, self._steps = time.monotonic(), 0

    def step(self, epoch: int, step: int, loss: Tensor) -> None:
        """Call after each step. Cheap unless the interval is over."""
        self._steps += 1
        if not self.active or time.monotonic() - self._written_at < INTERVAL:
            return
        value = float(loss)
        seconds = time.monotonic() - self._timer
        if not (self._cold and self._steps == 1 < self.steps):  # the very first step includes one-time costs
            self.pace.record_steps(self._steps, seconds)
        self._cold = False
        speed = self._steps * self.batch_size / seconds
        self.write("train", epoch=epoch, step=step, loss=value, images_per_second=speed, shares=self.watch.shares())
        self._timer, self._steps = time.monotonic(), 0
        self._written_at = self._timer

    def write(self, stage: str, **values: Any) -> None:
        """Write the stage "train", "validate", "test", "stopped" or "finished", with further values."""
        if not self.active:
            return
        record = {"stage": stage, "epochs": self.epochs, "steps": self.steps, "time": time.time(), **values}
        estimate = self._estimate(stage, values)
        if estimate is not None:
            record |= {"done": estimate[0], "seconds_left": estimate[1]}
        record["storage"] = self.note() or None
        write_json(self.file, {name: value for name, value in record.items() if value is not None})

    def _estimate(self, stage: str, values: dict[str, Any]) -> tuple[float, float] | None:
        if stage not in ("train", "validate", "test"):
            return None
        step = {"train": values.get("step", -1) + 1, "validate": self.steps}.get(stage, 0)
        return self.pace.estimate(stage, values.get("epoch", 0), step, values.get("share", 0.0))


class SweepProgress:
    """Writes, about once a second, which share of a sweep is done, by this rank's rows."""

    def __init__(self, progress: ProgressWriter, stage: str, epoch: int, rows: int) -> None:
        self.progress, self.stage, self.epoch, self.rows = progress, stage, epoch, max(rows, 1)
        self.done, self._written_at = 0, time.monotonic()
        self._began = self._written_at
        progress.write(stage, epoch=epoch)

    def __call__(self, rows: int) -> None:
        """Call after each block of `rows` rows."""
        self.done += rows
        if self.done >= self.rows:  # also of a sweep that is shorter than the interval
            seconds = time.monotonic() - self._began
            self.progress.pace.record_sweep(self.stage, 1.0, seconds)
            self.progress.sweeping += seconds
        if time.monotonic() - self._written_at > INTERVAL:
            self._written_at, share = time.monotonic(), min(1.0, self.done / self.rows)
            self.progress.pace.record_sweep(self.stage, share, self._written_at - self._began)
            self.progress.write(self.stage, epoch=self.epoch, share=share)


def read_progress(run_path: Path) -> dict[str, Any] | None:
    """The content of a run's `progress.json`; None before it was first written.

    Raises:
        ConfigError: the file is damaged.
    """
    file = run_path / PROGRESS_FILE
    progress = read_json(file) if file.exists() else None
    if progress is not None and not (isinstance(progress, dict) and {"stage", "epochs"} <= progress.keys()):
        raise ConfigError(f"{file}: damaged, not what a run writes; delete it")
    return progress
