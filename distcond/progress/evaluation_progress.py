"""Progress of an evaluation on standard error, from the outcome files that it writes: the same under every launcher."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distcond.results.labels import format_duration
from distcond.tqdm_bar import make_bar

#: Seconds between two checks for new files, and between two log lines.
INTERVAL, LINE_SECONDS = 0.5, 30.0

_log = logging.getLogger(__name__)


@contextmanager
def report_evaluation(files: list[Path]) -> Iterator[None]:
    """Within the block, show on standard error how many of `files` exist."""
    progress, done = EvaluationProgress(files), threading.Event()
    thread = threading.Thread(target=_report_until, args=(progress, done), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        progress.close()


class EvaluationProgress:
    """A bar on a terminal or in a notebook, else a line every 30 s; with the time left at the pace so far."""

    def __init__(self, files: list[Path]) -> None:
        self.missing = [file for file in files if not file.exists()]
        self.total, self.before = len(files), len(files) - len(self.missing)
        self.start = self.logged_at = time.monotonic()
        form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} block outcomes [{elapsed}<{remaining}]"
        self.bar = make_bar(total=self.total, initial=self.before, bar_format=form, desc="attack")
        if self.before and self.missing:
            _log.info(f"resuming: {self.before} of {self.total} block outcomes exist already")

    @property
    def done(self) -> int:
        """The number of files that exist."""
        return self.total - len(self.missing)

    def report(self) -> None:
        """Check the files again and show the progress."""
        self.missing = [file for file in self.missing if not file.exists()]
        if self.bar is not None:
            self.bar.n = self.done
            self.bar.refresh()
        elif time.monotonic() - self.logged_at > LINE_SECONDS:
            self.logged_at = time.monotonic()
            _log.info(self.line())

    def line(self) -> str:
        """`12 of 40 block outcomes, about 3 min left`."""
        new = self.done - self.before
        seconds = (time.monotonic() - self.start) / new * len(self.missing) if new else 0.0
        left = f", about {format_duration(seconds)} left" if new else ""
        return f"{self.done} of {self.total} block outcomes{left}"

    def close(self) -> None:
        """Show the final state and close the bar."""
        if self.bar is not None:
            self.report()
            self.bar.close()


def _report_until(progress: EvaluationProgress, done: threading.Event) -> None:
    while not done.wait(INTERVAL):
        progress.report()
