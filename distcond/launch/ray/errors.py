"""Translate errors of Ray Train: which ones end a run without a restart, and the one line that the user sees."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from ray.exceptions import OutOfMemoryError
from ray.train.v2.api.callback import UserCallback
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from distcond.errors import ConfigError
from distcond.runs.failures import LaunchFailed, WorkerError, format_error_line

#: Of several workers' errors the one of the lowest number is the cause.
_CAUSE_ORDER = {"config": 0, "unreachable": 0, "deterministic": 1, "transient": 2, "died": 3, "lost_peer": 4}


class FailFastCallback(UserCallback):
    """Ends a run at an error that a restart would repeat. Runs in Ray Train's controller.

    A run directory that workers do not see at the first start is an error of the user. Later it may come back.
    """

    def __init__(self) -> None:
        self._started = False

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise such an error, which ends the controller."""
        for error in worker_exceptions.values():
            if isinstance(error, WorkerError) and error.kind in self._fatal_kinds:
                raise error
        self._started = True

    @property
    def _fatal_kinds(self) -> tuple[str, ...]:
        return ("config", "deterministic") if self._started else ("config", "deterministic", "unreachable")


def translate_ray_error(error: Exception, restarts: int = 0, logs: Path | None = None) -> Exception:
    """The error to raise in the driver for an error of `TorchTrainer.fit`: a LaunchFailed or ConfigError of one line.

    Args:
        error: what `fit` raised. Of several workers' errors the one that caused the others is reported.
        restarts: how often the workers were restarted before.
        logs: Ray's log directory, which is named where Ray may know more than the worker.
    """
    logs_hint = f" (Ray's logs in {logs})" if logs else ""
    if isinstance(error, ControllerError):
        cause = error.controller_failure
        if not isinstance(cause, WorkerError):
            return LaunchFailed(f"Ray Train could not start the workers: {format_error_line(cause)}{logs_hint}")
        return _translate_worker_error(cause, cause.rank, restarts, logs_hint)
    if not isinstance(error, WorkerGroupError):
        return LaunchFailed(f"Ray Train: {_last_line(error)}{logs_hint}")
    rank, cause = min(error.worker_failures.items(), key=lambda item: (_CAUSE_ORDER[_kind(item[1])], item[0]))
    return _translate_worker_error(cause, rank, restarts, logs_hint)


def raised_by_workers(error: BaseException | None) -> bool:
    """Whether an error of `TorchTrainer.fit` was raised by workers that had started, not by starting them."""
    if isinstance(error, ControllerError):
        return isinstance(error.controller_failure, WorkerError)
    return isinstance(error, WorkerGroupError)


def _translate_worker_error(cause: Exception, rank: int, restarts: int, logs_hint: str) -> Exception:
    after = f", after {restarts} restart{'s' if restarts > 1 else ''}" if restarts else ""
    if not isinstance(cause, WorkerError):
        return LaunchFailed(f"worker {rank} died without an exception{after}: {_describe_death(cause)}{logs_hint}")
    if cause.kind in ("config", "unreachable"):
        return ConfigError(cause.line)
    if cause.kind == "lost_peer":
        consequence = f"worker {rank} then raised {cause.line}"
        return LaunchFailed(f"a worker died without an exception{after}; {consequence} ({cause.where}){logs_hint}")
    return LaunchFailed(f"{cause.line} (worker {rank}{after}; {cause.where})")


def _kind(error: Exception) -> str:
    return error.kind if isinstance(error, WorkerError) else "died"


def _describe_death(error: Exception) -> str:
    """One line about why a worker process died."""
    cause = getattr(error, "health_check_failure", error)
    if isinstance(cause, OutOfMemoryError):
        return "killed by Ray because the node ran out of memory"
    if "connection error code 2" in str(cause):
        return "killed, out of memory, or crashed outside Python"
    return _last_line(cause)


def _last_line(error: Exception) -> str:
    """The last line of a message with a traceback, which is the error itself."""
    lines = str(error).strip().splitlines()
    return textwrap.shorten(lines[-1], 300) if lines else type(error).__name__
