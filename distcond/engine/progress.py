"""How far a run is, in one small file that anyone can watch: the same under every launcher, on every machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch import Tensor

from distcond.engine.run_dir import read_json, write_json

#: Seconds between two looks at the device: more often would make the host wait for it.
INTERVAL = 1.0


class Progress:
    """Writes `progress.json` about once a second; only then is a number brought from the device to the host."""

    def __init__(self, run_path: Path, epochs: int, steps: int, batch_size: int, active: bool) -> None:
        self.file, self.active = run_path / "progress.json", active
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self._time, self._steps = time.monotonic(), 0

    def step(self, epoch: int, step: int, loss: Tensor) -> None:
        """After each step; cheap unless the interval is over."""
        self._steps += 1
        if not self.active or time.monotonic() - self._time < INTERVAL:
            return
        value = float(loss)
        seconds = time.monotonic() - self._time
        self.say("train", epoch=epoch, step=step, loss=value, images_per_second=self._steps * self.batch_size / seconds)
        self._time, self._steps = time.monotonic(), 0

    def say(self, stage: str, **values: Any) -> None:
        """Write what is being done: stage "train", "validate", "test" or "finished"."""
        if self.active:
            write_json(self.file, {"stage": stage, "epochs": self.epochs, "steps": self.steps, **values})


class Meter:
    """How much of a sweep is done, by this rank's share of its rows, about once a second."""

    def __init__(self, progress: Progress, stage: str, epoch: int, rows: int) -> None:
        self.progress, self.stage, self.epoch, self.rows = progress, stage, epoch, max(rows, 1)
        self.done, self._time = 0, time.monotonic()
        progress.say(stage, epoch=epoch)

    def __call__(self, rows: int) -> None:
        """After each block of `rows` rows."""
        self.done += rows
        if time.monotonic() - self._time > INTERVAL:
            self._time = time.monotonic()
            self.progress.say(self.stage, epoch=self.epoch, share=min(1.0, self.done / self.rows))


def read_progress(run_path: Path) -> dict[str, Any] | None:
    """The last word of a run, or None before its first."""
    file = run_path / "progress.json"
    progress: dict[str, Any] | None = read_json(file) if file.exists() else None
    return progress
