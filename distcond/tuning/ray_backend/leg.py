"""One leg of a trial, in the process that Ray Tune starts for it: a run on Ray Train workers, watched by its files.

Nothing is reported from within the training: the run writes its history, and this process reads it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distcond.config.overrides import from_settings
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.launch.stopping import RunStopped
from distcond.reporting.run_report import write_report
from distcond.results import history
from distcond.run_layout import ATTEMPT_FILE, HISTORY_FILE, PROGRESS_FILE
from distcond.runs.attempts import epochs_done, last_attempt, set_epoch_limit
from distcond.runs.failures import LaunchFailed, format_error_line
from distcond.runs.run_dir import RunDir
from distcond.training.progress import read_progress
from distcond.tuning.objective import Objective, spent, values
from distcond.tuning.trial import Outcome

#: Seconds between two looks at the files.
INTERVAL = 0.2

#: Seconds that a run is waited for which another process still holds: one that was killed a moment ago.
PATIENCE = 60.0


@dataclass(frozen=True)
class Order:
    """What a leg is told, as plain values."""

    settings: dict[str, Any]
    run_path: str
    until: int
    objectives: list[list[Any]]
    reference: list[float]
    hang: float

    def told(self, run: RunDir) -> Outcome:
        """How far the run is, by its files. Epochs whose checkpoint is not there yet are done again, and not told."""
        records = [record for record in history.read(run.path) if record["epoch"] <= epochs_done(run.path)]
        asked = [Objective(*one) for one in self.objectives]
        curve = []
        for number, record in enumerate(records, 1):
            found = values(asked, records[:number], (self.reference[0], self.reference[1]))
            if found:
                curve.append((float(record["epoch"]), *found))
        flops, seconds = spent(records)
        return Outcome(tuple(curve), records[-1]["epoch"] if records else 0, flops, seconds, run.finished)


def run_leg(order: dict[str, Any]) -> None:
    """Train a run to the end of a leg, reporting every epoch to Ray Tune, and then the outcome."""
    from ray import tune

    work = Work(Order(**order))
    try:
        outcome = work.done(lambda point: tune.report({"epoch": int(point[0]), "objective": point[1]}))
    except Exception as error:
        outcome = Outcome(error=format_error_line(error))
    # As text: Ray Tune takes nested results apart.
    tune.report({"epoch": outcome.epochs, "outcome": json.dumps(outcome._asdict())})
    if work.thread.is_alive():
        os._exit(1)  # it hangs; with this process its workers end, while another leg would find them in its way


class Work:
    """A run in a thread of this process, up to the end of a leg."""

    def __init__(self, given: Order) -> None:
        self.given, self.run, self.error = given, RunDir(Path(given.run_path)), ""
        self.again = False
        self.thread = threading.Thread(target=self._train, name="train", daemon=True)
        self.before: tuple[Any, ...] = ()

    def done(self, report: Callable[[tuple[float, ...]], None]) -> Outcome:
        """Train what is left of the leg; report (epoch, *values) of every epoch with values, once its checkpoint is."""
        until, said = self.given.until, 0
        if not self.run.finished and not 0 < until <= epochs_done(self.run.path):
            self.before = self._signs()
            self.thread.start()
        going = True
        while going:
            going = self._waited(self.given.hang)
            outcome = self.given.told(self.run)
            for point in outcome.curve[said:]:
                report(point)
            said = len(outcome.curve)
        return outcome._replace(error=self.error, again=self.again)

    def _waited(self, hang: float) -> bool:
        """Wait for anything to change in the run's files; False when it is over, or nothing did for `hang` seconds."""
        seen, since = self._signs(), time.monotonic()
        while self.thread.is_alive() and (signs := self._signs()) == seen:
            self.thread.join(INTERVAL)
            # Until steps are made, Ray Train has its own patience; after the end, only the report is written.
            begun = signs[:2] != self.before[:2] and not self.run.finished
            if begun and time.monotonic() - since > hang:
                self.error = f"no progress for {hang:g} s (hang={hang:g}); last: {_last_word(self.run.path)}"
                return False
        return self.thread.is_alive()

    def _train(self) -> None:
        try:
            # Only here: the process that leads the sweep imports this file before Ray is up.
            from distcond.launch.ray.cluster import ray_cluster
            from distcond.launch.ray.errors import raised_by_workers
            from distcond.launch.ray.trainer import train_on_ray

            config = from_settings(self.given.settings)
            with _taken(self.run, config) as attempt, ray_cluster() as ray:
                set_epoch_limit(self.run.path, self.given.until)
                # That the cluster has room is settled, so workers that are slow to start are waited for.
                train_on_ray(config, self.run.path, attempt, replace(ray, own=False))
                if self.run.finished:
                    write_report(self.run.path)
        except RunStopped:
            pass  # how far it came, its files tell
        except LaunchFailed as error:
            # What its workers said of themselves Ray Train has repeated already, if that could help.
            self.error, self.again = str(error), not raised_by_workers(error.__cause__)
        except ConfigError as error:
            self.error = str(error)
        except Exception as error:
            self.error = format_error_line(error)

    def _signs(self) -> tuple[Any, ...]:
        files = [self.run.path / name for name in (PROGRESS_FILE, HISTORY_FILE, ATTEMPT_FILE)]
        return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)


@contextmanager
def _taken(run: RunDir, config: Config) -> Iterator[int]:
    """`run.begin`, waiting a little for a process that was killed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            begun = run.begin(config)
            attempt = begun.__enter__()
            break
        except ConfigError as error:
            if "another process" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1.0)
    try:
        yield attempt
    finally:
        begun.__exit__(None, None, None)


def _last_word(run_path: Path) -> str:
    with suppress(OSError, ValueError):
        progress = read_progress(run_path)
        if progress is not None:
            return f"{progress['stage']} in epoch {progress.get('epoch', 0) + 1}, attempt {last_attempt(run_path)}"
    return "its workers have not begun"
