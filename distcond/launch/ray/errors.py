"""What Ray Train's errors mean: which ones to restart after, and the one line that the user sees."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from ray.exceptions import OutOfMemoryError
from ray.train.v2.api.callback import UserCallback
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from distcond.errors import ConfigError
from distcond.runs.failures import LaunchFailed, WorkerError, one_line

_ORDER = {"config": 0, "away": 0, "certain": 1, "chance": 2, "died": 3, "lost": 4}


class FailFastCallback(UserCallback):
    """Ends a run at an error that a restart would only repeat. Runs in Ray Train's controller.

    A run directory that workers do not see at the start is a mistake; one that they have seen may come back.
    """

    def __init__(self) -> None:
        self._began = False

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise such an error: the controller gives up on errors of its callbacks."""
        for error in worker_exceptions.values():
            if isinstance(error, WorkerError) and error.kind in self._final:
                raise error
        self._began = True

    @property
    def _final(self) -> tuple[str, ...]:
        return ("config", "certain") if self._began else ("config", "certain", "away")


def translate_ray_error(error: Exception, restarts: int = 0, logs: Path | None = None) -> Exception:
    """What to raise in the driver for an error of `TorchTrainer.fit` after so many restarts of the workers.

    Of several workers' errors the one that caused the others counts. A ConfigError stays one. `logs` is named where
    Ray may know more than the worker.
    """
    more = f" (Ray's logs in {logs})" if logs else ""
    if isinstance(error, ControllerError):
        cause = error.controller_failure
        if not isinstance(cause, WorkerError):
            return LaunchFailed(f"Ray Train could not start the workers: {one_line(cause)}{more}")
        return _workers(cause, cause.rank, restarts, more)
    if not isinstance(error, WorkerGroupError):
        return LaunchFailed(f"Ray Train: {_last_line(error)}{more}")
    rank, cause = min(error.worker_failures.items(), key=lambda item: (_ORDER[_kind(item[1])], item[0]))
    return _workers(cause, rank, restarts, more)


def raised_by_workers(error: BaseException | None) -> bool:
    """Whether an error of `TorchTrainer.fit` is one of workers that had begun, not one of getting them to begin."""
    if isinstance(error, ControllerError):
        return isinstance(error.controller_failure, WorkerError)
    return isinstance(error, WorkerGroupError)


def _workers(cause: Exception, rank: int, restarts: int, more: str) -> Exception:
    again = f", after {restarts} restart{'s' if restarts > 1 else ''}" if restarts else ""
    if not isinstance(cause, WorkerError):
        return LaunchFailed(f"worker {rank} died without an exception{again}: {_death(cause)}{more}")
    if cause.kind in ("config", "away"):
        return ConfigError(cause.line)
    if cause.kind == "lost":
        met = f"worker {rank} then met {cause.line}"
        return LaunchFailed(f"a worker died without an exception{again}; {met} ({cause.where}){more}")
    return LaunchFailed(f"{cause.line} (worker {rank}{again}; {cause.where})")


def _kind(error: Exception) -> str:
    return error.kind if isinstance(error, WorkerError) else "died"


def _death(error: Exception) -> str:
    """One line about a worker that is gone."""
    cause = getattr(error, "health_check_failure", error)
    if isinstance(cause, OutOfMemoryError):
        return "killed by Ray because the node ran out of memory"
    if "connection error code 2" in str(cause):
        return "killed, out of memory, or crashed outside Python"
    return _last_line(cause)


def _last_line(error: Exception) -> str:
    """The last line of a message that holds a traceback, which names the error itself."""
    lines = str(error).strip().splitlines()
    return textwrap.shorten(lines[-1], 300) if lines else type(error).__name__
