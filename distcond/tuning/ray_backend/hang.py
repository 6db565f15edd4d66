"""Ends the process of a trial whose run shows no progress."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distcond.errors import ConfigError
from distcond.launch.ray.messages import put_message
from distcond.run_layout import ATTEMPT_FILE, HISTORY_FILE, PROGRESS_FILE
from distcond.runs.attempts import last_attempt
from distcond.training.progress import read_progress

Signs = tuple[int, ...]


@contextmanager
def watched(run_path: Callable[[], Path | None], seconds: float, trial_id: str, training: bool) -> Iterator[None]:
    """Within the block, end this process if the files of the run do not change for `seconds`.

    Args:
        run_path: the run directory, once it is known.
        seconds: without progress.
        trial_id: of the trial that then has failed.
        training: whether the run trains already. Otherwise the first change may take any time: the run may convert data
            or wait for workers.
    """
    over = threading.Event()
    args = (run_path, seconds, trial_id, training, over)
    threading.Thread(target=_watch, args=args, name="hang", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(
    run_path: Callable[[], Path | None], seconds: float, trial_id: str, training: bool, over: threading.Event
) -> None:
    first: Signs = ()
    seen, since = first, time.monotonic()
    while not over.wait(min(1.0, seconds / 10)):
        path = run_path()
        signs = _signs(path) if path is not None else ()
        first = first or signs
        if signs != seen:
            seen, since = signs, time.monotonic()
        elif path is not None and (training or signs != first) and time.monotonic() - since > seconds:
            put_message(f"{trial_id}/failure", f"no progress for {seconds:g} s (hang={seconds:g}); last: {_last(path)}")
            os._exit(1)


def _signs(path: Path) -> Signs:
    """Times at which the files that a training run writes were changed."""
    files = [path / name for name in (PROGRESS_FILE, HISTORY_FILE, ATTEMPT_FILE)]
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)


def _last(path: Path) -> str:
    with suppress(OSError, ConfigError):
        progress = read_progress(path)
        if progress is not None:
            return f"{progress['stage']} in epoch {progress.get('epoch', 0) + 1}, attempt {last_attempt(path)}"
    return "its training has not begun"
