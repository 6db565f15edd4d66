"""How failures are described, how attempts are counted, and signals."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import threading
from pathlib import Path

import pytest
import torch

from distcond.distributed.world import World
from distcond.errors import ConfigError, TransientError
from distcond.launch.stopping import exit_on_stop_signal, run_in_thread
from distcond.runs.attempts import begin_attempt, last_attempt
from distcond.runs.failures import WorkerError, capture_worker_error, classify_error, format_error_line
from distcond.runs.remote import RemoteRun
from distcond.storage.errors import StorageError


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.handle = threading.Lock()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError("data.root=x: no such folder"), "config"),
        (TransientError("s3://bucket: not reachable"), "transient"),
        (StorageError("everything is in runs/x; s3://bucket: not reachable"), "deterministic"),
        (ValueError("x"), "deterministic"),
        (FloatingPointError("the loss is nan"), "deterministic"),
        (KeyError("x"), "deterministic"),
        (OSError("No space left on device"), "transient"),
        (RuntimeError("CUDA error: an illegal memory access"), "transient"),
        (MemoryError(), "transient"),
        (ConnectionResetError("Connection reset by peer"), "lost_peer"),
        (
            RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:5: Connection reset by peer"),
            "lost_peer",
        ),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), "lost_peer"),
        (
            RuntimeError("[Rank 0] Watchdog caught collective operation timeout: ProcessGroupNCCL timed out"),
            "lost_peer",
        ),
    ],
)
def test_errors_are_classified_for_restarts(error: Exception, kind: str) -> None:
    assert classify_error(error) == kind


def test_one_line_names_the_error() -> None:
    assert format_error_line(KeyError("x")) == "KeyError: 'x'"
    assert format_error_line(RuntimeError("\n first\nsecond")) == "RuntimeError: first"
    assert format_error_line(MemoryError()) == "MemoryError"
    assert format_error_line(ConfigError("epochs=0: must be at least 1")) == "epochs=0: must be at least 1"
    assert len(format_error_line(RuntimeError("word " * 1000))) < 330


def test_any_error_reaches_the_driver(tmp_path: Path) -> None:
    with pytest.raises(WorkerError) as caught, capture_worker_error(tmp_path, rank=3, attempt=2):
        raise Unpicklable(1, 2)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.line, error.rank, error.kind) == ("Unpicklable: 1 and 2", 3, "transient")
    assert error.file == str(tmp_path / "failures" / "attempt-02-worker-0003.txt")
    assert "raise Unpicklable(1, 2)" in Path(error.file).read_text()


def test_exhausted_host_memory_may_be_retried(tmp_path: Path) -> None:
    with pytest.raises(WorkerError) as caught, capture_worker_error(tmp_path, rank=0, attempt=0):
        _starve()
    line = caught.value.line
    assert line.startswith("RuntimeError: ") and "can't allocate memory" in line and caught.value.kind == "transient"


def _starve() -> None:
    """Allocate until a limit of the address space is reached; the memory is never touched."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, limits[1]))
    tensors = []
    try:
        while True:
            tensors.append(torch.empty(2**28, dtype=torch.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_attempts_continue_from_the_highest_number(tmp_path: Path) -> None:
    assert last_attempt(tmp_path) is None
    assert [begin_attempt(World(), tmp_path, base)[1] for base in (0, 0, 1, 7, 3)] == [0, 1, 2, 7, 8]
    assert last_attempt(tmp_path) == 8


def test_attempts_at_uri_count_across_machines(tmp_path: Path) -> None:
    remotes = [RemoteRun(f"file://{tmp_path}/there/run", tmp_path / machine / "run") for machine in "aba"]
    for remote in remotes:
        remote.local.mkdir(parents=True, exist_ok=True)
    assert [begin_attempt(World(), remote.local, 0, remote)[1] for remote in remotes] == [0, 1, 2]
    assert last_attempt(tmp_path / "there" / "run") == 2


def test_sigterm_unwinds_the_main_thread() -> None:
    steps = []

    def run() -> None:
        with exit_on_stop_signal():
            try:
                run_in_thread(lambda: (os.kill(os.getpid(), signal.SIGTERM), threading.Event().wait(30)))
            finally:
                os.kill(os.getpid(), signal.SIGTERM)  # a second signal
                steps.append("cleaned up")

    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 143
    assert steps == ["cleaned up"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_earlier_signal_handler_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[int] = []

    def handler(number: int, frame: object) -> None:
        received.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with exit_on_stop_signal() as arm:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            arm()
            os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_thread_returns_result_or_error() -> None:
    assert run_in_thread(lambda: threading.current_thread().name) == "launch"
    with pytest.raises(KeyError, match="x"):
        run_in_thread(lambda: {}["x"])
    assert _in_thread(lambda: run_in_thread(lambda: threading.current_thread().name)) != "launch"


def _in_thread(work):  # type: ignore[no-untyped-def]
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]
