"""Callbacks of a sweep in Ray Tune: a line for each trial, the end on request, and results that survive a restart."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import TrialScheduler

from distcond.errors import StopRequested
from distcond.launch.ray.messages import get_message
from distcond.launch.ray.placement_group import release_placement_group
from distcond.storage.uri import is_uri
from distcond.tuning.ray_backend.snapshot import StateKeeper

_log = logging.getLogger(__name__)

#: Seconds between two looks for a request to stop.
POLL_SECONDS = 0.5

#: Set when the command ends at once. Of this module, since Tune works with copies of its callbacks.
HALT = threading.Event()

#: Seconds until Tune has written its state for certain: it does so every second.
SNAPSHOT_SECONDS = 2.0


class ResumingJsonLogger(JsonLoggerCallback):
    """Ray's JSON logger, which also fetches `result.json` of a resumed trial that has no Tune checkpoint.

    Ray's own begins an empty file then and uploads it over the old one: the trial would lose its results.
    """

    def _restore_from_remote(self, file_name: str, trial: Trial) -> None:
        assert trial.local_path is not None and trial.storage is not None
        local = Path(trial.local_path, file_name)
        if local.exists():  # of this process, so it is newer
            return
        source = f"{trial.storage.trial_fs_path}/{file_name}"
        with suppress(FileNotFoundError), trial.storage.storage_filesystem.open_input_stream(source) as file:
            lines = _complete_lines(file.readall().decode("utf-8", "replace"))
            local.write_text("".join(lines), encoding="utf-8")


class SweepCallback(Callback):
    """Logs a line for every trial that ended, and ends the experiment when the sweep was asked to stop.

    Args:
        sweep: name of the sweep's messages.
        objectives: what to show of a result.
        count: trials of the sweep.
        keeper: copies the state files of the experiment; None at a URI.
    """

    def __init__(self, sweep: str, objectives: Sequence[str], count: int, keeper: StateKeeper | None) -> None:
        self.sweep, self.objectives, self.count, self.keeper = sweep, tuple(objectives), count, keeper
        self._looked_at = self._all_stopped_at = 0.0

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Raise StopRequested once all trials have saved their state and Tune has written its own."""
        now = time.monotonic()
        if now - self._looked_at < POLL_SECONDS:
            return
        self._looked_at = now
        if HALT.is_set():
            _end(trials)
        if get_message(f"{self.sweep}/stop") is None:
            return
        running = [trial for trial in trials if trial.status == Trial.RUNNING]
        if any(get_message(f"{self.sweep}/stopped/{trial.trial_id}") is None for trial in running):
            self._all_stopped_at = 0.0
            return
        self._all_stopped_at = self._all_stopped_at or now
        if now - self._all_stopped_at > SNAPSHOT_SECONDS:
            _end(trials)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Keep a copy of the state."""
        if self.keeper is not None:
            self.keeper.keep()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Log its objectives."""
        result = trial.last_result or {}
        values = ", ".join(f"{name} {result[name]:.4g}" for name in self.objectives if name in result)
        ended = "finished" if result.get("epoch") == result.get("epochs") else "stopped"
        self._tell(f"{ended} after epoch {result.get('epoch', 0)}: {values}", trials, trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Log why, in one line, and release the workers that it may have left."""
        self._release(trial)
        line = failure_line(trial)
        if trial.error_file is not None:  # the report shows its last line
            with open(trial.error_file, "a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        self._tell(f"failed: {line}", trials, trial)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Release the workers of a trial that is about to start again."""
        self._release(trial)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Keep a copy of the last state."""
        if self.keeper is not None:
            self.keeper.keep()

    def _release(self, trial: Trial) -> None:
        place = (trial.last_result or {}).get("run_dir") or get_message(f"{trial.trial_id}/run") or ""
        if place and not is_uri(place):
            release_placement_group(Path(place))

    def _tell(self, what: str, trials: list[Trial], trial: Trial) -> None:
        # The trial's status changes only after this call.
        ended = sum(one.is_finished() for one in trials if one is not trial) + 1
        _log.info(f"trial {trial.trial_id} ({ended} of {self.count}) {what}")


def record_dead_trials(scheduler: TrialScheduler) -> None:
    """Make Tune store that a trial failed whose process died, which it otherwise stores as running (ray 2.60).

    Only schedulers are given the controller that stores the state.
    """
    on_trial_error = scheduler.on_trial_error

    def store_and_forward(controller: Any, trial: Trial) -> None:
        controller._mark_trial_to_checkpoint(trial)
        on_trial_error(controller, trial)

    scheduler.on_trial_error = store_and_forward  # type: ignore[assignment]


def _end(trials: list[Trial]) -> NoReturn:
    """End the experiment. Tune writes its state no more, so the killed trials are running ones for a restart."""
    for trial in trials:
        if trial.temporary_state.ray_actor is not None:
            ray.kill(trial.temporary_state.ray_actor)
    raise StopRequested


def failure_line(trial: Trial) -> str:
    """Why a trial failed, in one line."""
    noted = get_message(f"{trial.trial_id}/failure")
    if noted is not None:
        return noted
    text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file is not None else ""
    lines = [line for line in text.splitlines() if line.strip()]
    if any(line.startswith("The actor") for line in lines):
        return "the process of the trial died: killed, out of memory, or crashed outside Python"
    return lines[-1].partition(": ")[2] or lines[-1] if lines else "unknown"


def _complete_lines(text: str) -> list[str]:
    kept = []
    for line in text.splitlines(keepends=True):
        with suppress(ValueError):
            json.loads(line)
            kept.append(line.rstrip("\n") + "\n")
    return kept
