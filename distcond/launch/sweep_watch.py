"""How far an evaluation is, read off the files it writes: the same under every launcher."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distcond.results.labels import format_duration

#: Seconds between two looks, and between two lines of a log.
INTERVAL, LINE_SECONDS = 0.5, 30.0

_log = logging.getLogger(__name__)


@contextmanager
def sweep_watched(files: list[Path]) -> Iterator[None]:
    """Show on standard error how many of `files` there are, for as long as the block takes."""
    watch, over = SweepWatch(files), threading.Event()
    thread = threading.Thread(target=_keep_looking, args=(watch, over), name="sweep-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        watch.close()


class SweepWatch:
    """A bar on a terminal, else a line every half minute, with the time that is left at the pace so far."""

    def __init__(self, files: list[Path]) -> None:
        self.missing = [file for file in files if not file.exists()]
        self.total, self.before = len(files), len(files) - len(self.missing)
        self.began = self.said = time.monotonic()
        self.bar = _bar(self.total, self.before)
        if self.before and self.missing:
            _log.info(f"going on: {self.before} of {self.total} block outcomes are there already")

    @property
    def done(self) -> int:
        """How many files there are."""
        return self.total - len(self.missing)

    def look(self) -> None:
        """Count again and show it."""
        self.missing = [file for file in self.missing if not file.exists()]
        if self.bar is not None:
            self.bar.n = self.done
            self.bar.refresh()
        elif time.monotonic() - self.said > LINE_SECONDS:
            self.said = time.monotonic()
            _log.info(self.line())

    def line(self) -> str:
        """Where it stands, in words."""
        fresh = self.done - self.before
        left = (time.monotonic() - self.began) / fresh * len(self.missing) if fresh else 0.0
        ahead = f", about {format_duration(left)} left" if fresh else ""
        return f"{self.done} of {self.total} block outcomes{ahead}"

    def close(self) -> None:
        """Nothing more comes."""
        if self.bar is not None:
            self.look()
            self.bar.close()


def _bar(total: int, done: int) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} block outcomes [{elapsed}<{remaining}]"
    return tqdm(total=total, initial=done, bar_format=form, desc="attack", file=sys.stderr, dynamic_ncols=True)


def _keep_looking(watch: SweepWatch, over: threading.Event) -> None:
    while not over.wait(INTERVAL):
        watch.look()
