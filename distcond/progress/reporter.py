"""Report the live progress of a run from its files: the same under every launcher, wherever the workers are."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distcond.errors import ConfigError
from distcond.progress.display import ProgressDisplay, make_display
from distcond.results import history
from distcond.run_layout import FAILURES_DIR, HISTORY_FILE
from distcond.runs.attempts import last_attempt, last_world_size
from distcond.runs.failures import is_lost_peer
from distcond.training.progress import read_progress

#: Seconds between two reads of the files.
INTERVAL = 0.5

#: A stage gets a line of its own only after this many seconds.
BRIEF_SECONDS = 2.0

_STAGE_LINES = {"validate": "validating", "test": "testing the best and the last checkpoint"}


@contextmanager
def report_progress(run_path: Path, active: bool = True) -> Iterator[None]:
    """Within the block, show the progress of the run in `run_path` on standard error."""
    if not active:
        yield
        return
    display, done = make_display(), threading.Event()
    reporter = ProgressReporter(run_path, display)
    thread = threading.Thread(target=_report_until, args=(reporter, done), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _report_once(reporter)
        display.close()


class ProgressReporter:
    """Shows on a display what is new in a run's files at each `report`. What they held at the start is not shown."""

    def __init__(self, run_path: Path, display: ProgressDisplay) -> None:
        self.run_path, self.display = run_path, display
        self._old_records = self._read_first_records()
        self._progress = self._read_first_progress()
        self._attempt, self._workers = last_attempt(run_path), last_world_size(run_path)
        self._started = False  # whether the workers of this start have begun
        self._shown_epochs: set[int] = set()
        self._history_bytes = -1
        self._stage, self._stage_start, self._stage_shown = "", time.monotonic(), False

    def report(self) -> None:
        """Read the run's files and show what has changed."""
        self._report_attempt()
        progress = read_progress(self.run_path)
        if progress is None:
            return
        self._report_epochs(progress["epochs"])
        if progress != self._progress:
            self._progress = progress
            self._enter_stage(progress["stage"])
            self.display.update(progress)
        self._report_stage()

    def _read_first_records(self) -> list[history.Record]:
        try:
            return history.read(self.run_path)
        except ConfigError:
            return []  # the run restores it, or says why it cannot

    def _read_first_progress(self) -> dict[str, Any] | None:
        try:
            return read_progress(self.run_path)
        except ConfigError as error:
            self.display.write_line(f"{error}; the run will replace it")
            return None

    def _report_attempt(self) -> None:
        attempt, workers = last_attempt(self.run_path), last_world_size(self.run_path)
        if attempt is None or attempt == self._attempt:
            return
        if self._started:
            self.display.write_line(_describe_restart(self.run_path, attempt, self._workers, workers))
        self._attempt, self._workers, self._started = attempt, workers, True

    def _report_epochs(self, epochs: int) -> None:
        file = self.run_path / HISTORY_FILE
        size = file.stat().st_size if file.exists() else 0
        if size == self._history_bytes:
            return
        self._history_bytes = size
        for record in history.read(self.run_path):
            # An epoch repeated after a restart of the workers is shown once. One of an earlier start is shown if it
            # was repeated in this one.
            if record["epoch"] not in self._shown_epochs and record not in self._old_records:
                self._shown_epochs.add(record["epoch"])
                self.display.epoch(record, epochs)
                if self._progress and self._progress.get("storage"):
                    self.display.write_line(self._progress["storage"])

    def _enter_stage(self, stage: str) -> None:
        if stage != self._stage:
            self._stage, self._stage_start, self._stage_shown = stage, time.monotonic(), stage not in _STAGE_LINES
        self._report_stage()

    def _report_stage(self) -> None:
        if self._stage and not self._stage_shown and time.monotonic() - self._stage_start > BRIEF_SECONDS:
            self._stage_shown = True
            self.display.write_line(_STAGE_LINES[self._stage])


def _report_until(reporter: ProgressReporter, done: threading.Event) -> None:
    while not done.wait(INTERVAL):
        _report_once(reporter)


def _report_once(reporter: ProgressReporter) -> None:
    # A file that cannot be read now, as on an unmounted share, or is damaged must not fail the run.
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        reporter.report()


def _describe_restart(run_path: Path, attempt: int, before: int | None, now: int | None) -> str:
    """The line about a new attempt: why the workers were restarted, and what another number of workers changes."""
    grown = before is not None and now is not None and now > before
    reason = "more workers are available" if grown else _failure_cause(run_path, attempt - 1)
    line = f"attempt {attempt}: workers restarted from the last checkpoint ({reason})"
    if before in (None, now):
        return line
    effect = "same global batches in the same order; each worker's BN statistics see a different share of them"
    return f"{line}; {now} worker{'' if now == 1 else 's'} instead of {before}: {effect}"


def _failure_cause(run_path: Path, attempt: int) -> str:
    """The error that ended an attempt: the last line of its first traceback that is not about a lost peer."""
    files = sorted(
        (run_path / FAILURES_DIR).glob(f"attempt-{attempt:02d}-*.txt"), key=lambda file: file.stat().st_mtime_ns
    )
    errors = [file.read_text().rstrip().splitlines()[-1] for file in files]
    causes = [error for error in errors if not is_lost_peer(error)]
    return textwrap.shorten(causes[0], 200) if causes else "a worker died without an exception"
