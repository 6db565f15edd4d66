"""Send a run's metrics to its trackers while it trains: a thread each, and the run waits for none.

A tracker that is slow, unreachable or broken costs the run nothing: its thread waits for it, and after an error it is
left out until the next start of the run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distcond.atomic_io import read_json, write_json
from distcond.config.overrides import to_settings
from distcond.config.schema import Config
from distcond.registry import lookup
from distcond.results import history
from distcond.run_layout import FINISHED_FILE, TRACKERS_DIR
from distcond.runs.failures import one_line
from distcond.runs.run_dir import RunDir
from distcond.trackers.base import RunInfo, TrackedRun, Tracker, epoch_metrics, point_metrics

#: Seconds between two looks at the history, and seconds that a tool gets at the end for what it still has to send.
INTERVAL, PATIENCE = 2.0, 30.0

_log = logging.getLogger(__name__)


def check_trackers(names: tuple[str, ...]) -> list[Tracker]:
    """The sinks by name.

    Raises:
        ConfigError: an unknown one, or one whose package is missing.
    """
    sinks: list[Tracker] = [lookup("sink", name) for name in dict.fromkeys(names)]
    for sink in sinks:
        sink.check()
    return sinks


@contextmanager
def track_run(config: Config, run_path: Path, active: bool = True) -> Iterator[None]:
    """Feed `config.sinks` for as long as the block takes, and for `PATIENCE` seconds at most after it."""
    feeds = [TrackerThread(sink, config, run_path) for sink in check_trackers(config.sinks)] if active else []
    for feed in feeds:
        feed.start()
    try:
        yield
    finally:
        for feed in feeds:
            feed.over.set()
        deadline = time.monotonic() + PATIENCE
        for feed in feeds:
            feed.join(max(0.0, deadline - time.monotonic()))
            if feed.is_alive():
                _log.warning("sink %s: not done within %g s; the rest comes when the run goes on", feed.name, PATIENCE)


class TrackerThread(threading.Thread):
    """One tool's thread; it keeps no process alive."""

    def __init__(self, sink: Tracker, config: Config, run_path: Path) -> None:
        super().__init__(name=sink.name, daemon=True)
        self.sink, self.run_path, self.over = sink, run_path, threading.Event()
        self.settings = to_settings(config)
        self.state = run_path / TRACKERS_DIR / f"{sink.name}.json"
        self.mark = ""
        self.done = 0  # the last epoch handed over
        self.finished = False  # whether the results on test were

    def run(self) -> None:
        """Hand over what is new until the run is over."""
        writer: TrackedRun | None = None
        try:
            self._load_state()
            last = False
            while not last:
                last = self.over.wait(INTERVAL)
                records, end = self._news()
                if records or end:
                    writer = writer or self._open()
                    self._send(writer, records, end)
            if writer is not None:
                writer.close()
        except Exception as error:
            _log.warning("sink %s: %s; the run goes on without it", self.sink.name, one_line(error))

    def _open(self) -> TrackedRun:
        return self.sink.open(RunInfo(self.run_path, self.run_path.name, self.mark, self.settings, self.done))

    def _news(self) -> tuple[list[history.Record], Any]:
        """The records that have not been handed over, and what the run has come to, if that has not."""
        with suppress(OSError, ValueError):  # a share that is away for now, a file that is being replaced
            self.mark = self.mark or RunDir(self.run_path).mark
            over = (self.run_path / FINISHED_FILE).exists() and not self.finished
            # Before the records, all of which are older.
            end = read_json(self.run_path / FINISHED_FILE) if over else None
            return [record for record in history.read(self.run_path) if record["epoch"] > self.done], end
        return [], None

    def _send(self, writer: TrackedRun, records: list[history.Record], end: Any) -> None:
        for record in records:
            writer.write(record["epoch"], epoch_metrics(record))
            self._save_state(record["epoch"])
        if end is not None:
            # After the last epoch, so that tools which want steps to rise take it.
            writer.write(end["epochs"] + 1, point_metrics("test", end["points"]))
            self._save_state(self.done, finished=True)

    def _load_state(self) -> None:
        with suppress(OSError, ValueError, KeyError):
            said = read_json(self.state)
            self.done, self.finished = said["epoch"], said["finished"]

    def _save_state(self, epoch: int, finished: bool = False) -> None:
        self.done, self.finished = epoch, finished
        write_json(self.state, {"epoch": epoch, "finished": finished})
