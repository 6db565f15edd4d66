"""Report the live progress of a run from its files alone: the same under every launcher, wherever the workers are."""

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

#: Seconds between two looks.
INTERVAL = 0.5

#: A stage that takes no longer than this many seconds gets no line of its own.
BRIEF_SECONDS = 2.0

_STAGES = {"validate": "validating", "test": "testing the best and the last checkpoint"}


@contextmanager
def report_progress(run_path: Path, active: bool = True) -> Iterator[None]:
    """Show the progress of the run in `run_path` on standard error for as long as the block takes."""
    if not active:
        yield
        return
    shown, over = make_display(), threading.Event()
    watch = ProgressReporter(run_path, shown)
    thread = threading.Thread(target=_report_until, args=(watch, over), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _report_once(watch)
        shown.close()


class ProgressReporter:
    """Each `look` shows what is new since the last one. What the files held at the start is old."""

    def __init__(self, run_path: Path, shown: ProgressDisplay) -> None:
        self.run_path, self.screen = run_path, shown
        self._old = history.read(run_path)
        self._progress = self._first_progress()
        self._attempt, self._workers = last_attempt(run_path), last_world_size(run_path)
        self._fresh = False  # whether the workers have begun
        self._shown: set[int] = set()
        self._size = -1
        self._stage, self._since, self._named = "", time.monotonic(), False

    def _first_progress(self) -> dict[str, Any] | None:
        try:
            return read_progress(self.run_path)
        except ConfigError as error:
            self.screen.write_line(f"{error}; the run writes it anew")
            return None

    def report(self) -> None:
        """Read the run's files and show what has changed."""
        self._look_at_attempt()
        progress = read_progress(self.run_path)
        if progress is None:
            return
        self._look_at_history(progress["epochs"])
        if progress != self._progress:
            self._progress = progress
            self._enter(progress["stage"])
            self.screen.update(progress)
        self._name_stage()

    def _look_at_history(self, epochs: int) -> None:
        file = self.run_path / HISTORY_FILE
        size = file.stat().st_size if file.exists() else 0
        if size == self._size:
            return
        self._size = size
        for record in history.read(self.run_path):
            # An epoch that is done again after a restart is shown once; one of an earlier start, if it was redone.
            if record["epoch"] not in self._shown and record not in self._old:
                self._shown.add(record["epoch"])
                self.screen.epoch(record, epochs)
                if self._progress and self._progress.get("storage"):
                    self.screen.write_line(self._progress["storage"])

    def _look_at_attempt(self) -> None:
        attempt, workers = last_attempt(self.run_path), last_world_size(self.run_path)
        if attempt is None or attempt == self._attempt:
            return
        if self._fresh:
            self.screen.write_line(_restarted(self.run_path, attempt, self._workers, workers))
        self._attempt, self._workers, self._fresh = attempt, workers, True

    def _enter(self, stage: str) -> None:
        if stage != self._stage:
            self._stage, self._since, self._named = stage, time.monotonic(), stage not in _STAGES
        self._name_stage()

    def _name_stage(self) -> None:
        if self._stage and not self._named and time.monotonic() - self._since > BRIEF_SECONDS:
            self._named = True
            self.screen.write_line(_STAGES[self._stage])


def _report_until(watch: ProgressReporter, over: threading.Event) -> None:
    while not over.wait(INTERVAL):
        _report_once(watch)


def _report_once(watch: ProgressReporter) -> None:
    # A file that cannot be read now (a share that is away) must not cost the run.
    with suppress(OSError, ValueError, KeyError):
        watch.report()


def _restarted(run_path: Path, attempt: int, before: int | None, now: int | None) -> str:
    """What a new attempt says, with what another number of workers changes."""
    grown = before is not None and now is not None and now > before
    reason = "there is room for more" if grown else _reason(run_path, attempt - 1)
    line = f"attempt {attempt}: workers restarted from the last checkpoint ({reason})"
    if before in (None, now):
        return line
    kept = "the same global batches in the same order; BN statistics per worker now see other shares of them"
    return f"{line}; {now} worker{'' if now == 1 else 's'} instead of {before}: {kept}"


def _reason(run_path: Path, attempt: int) -> str:
    """The error that ended an attempt: the last line of its first traceback, unless that is a consequence."""
    files = sorted(
        (run_path / FAILURES_DIR).glob(f"attempt-{attempt:02d}-*.txt"), key=lambda file: file.stat().st_mtime_ns
    )
    lines = [file.read_text().rstrip().splitlines()[-1] for file in files]
    causes = [line for line in lines if not is_lost_peer(line)]
    return textwrap.shorten(causes[0], 200) if causes else "one died without an exception"
