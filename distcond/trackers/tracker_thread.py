"""Send the metrics of a run to its trackers while it trains, each in its own thread.

Training never waits for a tracker that is slow or unreachable. A tracker that raises is not used again until the next
start of the run.
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
from distcond.runs.failures import format_error_line
from distcond.runs.run_dir import RunDir
from distcond.trackers.base import RunInfo, TrackedRun, Tracker, epoch_metrics, point_metrics

#: Seconds between two reads of the history.
INTERVAL = 2.0

#: Seconds that trackers get to finish after the run has ended.
PATIENCE = 30.0

_log = logging.getLogger(__name__)


def check_trackers(names: tuple[str, ...]) -> list[Tracker]:
    """The trackers of these names.

    Raises:
        ConfigError: an unknown name, or a tool that is not installed.
    """
    trackers: list[Tracker] = [lookup("sink", name) for name in dict.fromkeys(names)]
    for tracker in trackers:
        tracker.check()
    return trackers


@contextmanager
def track_run(config: Config, run_path: Path, active: bool = True) -> Iterator[None]:
    """Within the block, and at most `PATIENCE` seconds after it, send the run's metrics to `config.sinks`."""
    threads = [TrackerThread(tracker, config, run_path) for tracker in check_trackers(config.sinks)] if active else []
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.done.set()
        deadline = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                _log.warning(
                    "sink %s: not finished within %g s; the next start of the run sends the rest", thread.name, PATIENCE
                )


class TrackerThread(threading.Thread):
    """The daemon thread of one tracker. Set `done` once the run has ended."""

    def __init__(self, tracker: Tracker, config: Config, run_path: Path) -> None:
        super().__init__(name=tracker.name, daemon=True)
        self.tracker, self.run_path, self.done = tracker, run_path, threading.Event()
        self.settings = to_settings(config)
        self.state_file = run_path / TRACKERS_DIR / f"{tracker.name}.json"
        self.mark = ""
        self.sent_epoch = 0  # the last epoch that was sent
        self.sent_test = False  # whether the results on test were sent

    def run(self) -> None:
        """Send new records until the run has ended."""
        writer: TrackedRun | None = None
        try:
            self._load_state()
            last = False
            while not last:
                last = self.done.wait(INTERVAL)
                records, end = self._read_new()
                if records or end:
                    writer = writer or self._open()
                    self._send(writer, records, end)
            if writer is not None:
                writer.close()
        except Exception as error:
            _log.warning("sink %s: %s; the run continues without it", self.tracker.name, format_error_line(error))

    def _open(self) -> TrackedRun:
        info = RunInfo(self.run_path, self.run_path.name, self.mark, self.settings, self.sent_epoch)
        return self.tracker.open(info)

    def _read_new(self) -> tuple[list[history.Record], Any]:
        """The records that were not sent yet, and the content of `finished.json` if that was not."""
        with suppress(OSError, ValueError):  # an unmounted share, or a file that is being replaced
            self.mark = self.mark or RunDir(self.run_path).start_id
            finished = (self.run_path / FINISHED_FILE).exists() and not self.sent_test
            # Read before the history, which is complete once this file exists.
            end = read_json(self.run_path / FINISHED_FILE) if finished else None
            return [record for record in history.read(self.run_path) if record["epoch"] > self.sent_epoch], end
        return [], None

    def _send(self, writer: TrackedRun, records: list[history.Record], end: Any) -> None:
        for record in records:
            writer.write(record["epoch"], epoch_metrics(record))
            self._save_state(record["epoch"])
        if end is not None:
            # As one more epoch: some tools accept only increasing steps.
            writer.write(end["epochs"] + 1, point_metrics("test", end["points"]))
            self._save_state(self.sent_epoch, finished=True)

    def _load_state(self) -> None:
        with suppress(OSError, ValueError, KeyError):
            state = read_json(self.state_file)
            self.sent_epoch, self.sent_test = state["epoch"], state["finished"]

    def _save_state(self, epoch: int, finished: bool = False) -> None:
        self.sent_epoch, self.sent_test = epoch, finished
        write_json(self.state_file, {"epoch": epoch, "finished": finished})
