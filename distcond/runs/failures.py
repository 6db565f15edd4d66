"""Failures of a run: a worker's error in one line, its traceback in a file of `failures/`."""

from __future__ import annotations

import re
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import torch

from distcond.atomic_io import atomic_write_text
from distcond.disk_space import as_disk_full
from distcond.errors import ConfigError, DiskFull, TransientError
from distcond.run_layout import FAILURES_DIR
from distcond.storage.errors import StorageError

#: In place of the name of a file, if the traceback could not be written.
NO_TRACEBACK = "its traceback could not be written"

#: "config": a user error. "unreachable": a node does not see the run directory. "deterministic": a restart would
#: fail again. "lost_peer": another worker is gone; its error is the cause. "transient": others, a restart may help.
ErrorKind = Literal["config", "unreachable", "deterministic", "lost_peer", "transient"]

# Raised again by the same code on the same data. Others, such as RuntimeError and OSError, may come from the machine.
_DETERMINISTIC = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError,
    SyntaxError, TypeError, ValueError,
)  # fmt: skip
_LOST = re.compile(r"connection (closed|reset)|broken pipe|timed out|heartbeat|remote process|peer", re.IGNORECASE)
_NO_MEMORY = re.compile(r"out of memory|CU\w+_STATUS_ALLOC_FAILED", re.IGNORECASE)
_COLLECTIVE = re.compile(r"gloo|nccl|tcpstore|process ?group|connect", re.IGNORECASE)


class LaunchFailed(RuntimeError):
    """The run failed. The message is one line: what went wrong, on which worker, and where the traceback is."""


class WorkerError(Exception):
    """A worker's error on its way to the driver: plain text, since not every exception can be pickled.

    Args:
        kind: whether a restart may help.
        line: type and message of the error, one line.
        rank: of the worker.
        file: where the traceback is.
    """

    def __init__(self, kind: ErrorKind, line: str, rank: int, file: str = "") -> None:
        super().__init__(kind, line, rank, file)
        self.kind, self.line, self.rank, self.file = kind, line, rank, file

    def __str__(self) -> str:
        return self.line

    @property
    def where(self) -> str:
        """Where the traceback is, as a phrase for a message."""
        if self.file == NO_TRACEBACK:
            return NO_TRACEBACK
        return f"traceback in {self.file}" if self.file else "before it began"


def as_driver_error(error: WorkerError) -> Exception:
    """A worker's error as the driver raises it: a ConfigError or a LaunchFailed."""
    if error.kind == "config":
        return ConfigError(error.line)
    return LaunchFailed(f"{error.line} ({error.where})")


@contextmanager
def capture_worker_error(run_path: Path, rank: int, attempt: int) -> Iterator[None]:
    """Turn an exception of the block into a WorkerError, and write its traceback to `<run_path>/failures`.

    Raises:
        WorkerError: in place of any Exception of the block.
    """
    try:
        yield
    except Exception as caught:
        error = as_disk_full(caught, run_path) or caught
        file = run_path / FAILURES_DIR / f"attempt-{attempt:02d}-worker-{rank:04d}.txt"
        where = NO_TRACEBACK
        with suppress(OSError):  # a full disk may be the error itself
            atomic_write_text(file, "".join(traceback.format_exception(caught)))
            where = str(file)
        line = _describe_memory(error) if out_of_memory(error) else format_error_line(error)
        raise WorkerError(classify_error(error), line, rank, where) from caught


def classify_error(error: Exception) -> ErrorKind:
    """Classify an error by whether a restart may help."""
    if isinstance(error, ConfigError):
        return "transient" if isinstance(error, TransientError) else "config"
    # The store was already retried.
    if out_of_memory(error) or isinstance(error, (*_DETERMINISTIC, StorageError, DiskFull)):
        return "deterministic"
    return "lost_peer" if is_lost_peer(str(error)) else "transient"


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU ran out of memory, which the same batch does again. (Host memory may have been used by others.)"""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def _describe_memory(error: BaseException) -> str:
    """One line: type of the error, memory of the device and peak use, and what helps."""
    usage = "not enough memory"
    if torch.cuda.is_available():
        peak, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties("cuda").total_memory
        usage = f"peak {peak / 2**30:.3g} GiB of the GPU's {total / 2**30:.3g} GiB"
    fixes = "a smaller batch_size or more workers in training, a smaller eval.batch_size in evaluation"
    return f"{type(error).__name__}: {usage}; what helps: {fixes}, precision.train=bf16, a smaller model"


def is_lost_peer(text: str) -> bool:
    """Whether an error message says that a peer of a collective is gone: a consequence, not the cause."""
    return bool(_LOST.search(text) and _COLLECTIVE.search(text))


def format_error_line(error: BaseException) -> str:
    """`Type: first line of the message`, at most 300 characters; for a ConfigError the message alone."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = textwrap.shorten(lines[0], 300, placeholder=" ...") if lines else ""
    if isinstance(error, ConfigError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
