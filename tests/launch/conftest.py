"""Runs are started in processes of their own: signals, environment and leftovers are part of what is tested."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS = 200


@dataclass
class Place:
    """A directory, a short one for TMPDIR, and the environment of everything that a test starts there."""

    path: Path
    short: Path
    environment: dict[str, str]

    @property
    def mark(self) -> str:
        """`NAME=VALUE` in the environment of all processes of the test."""
        return f"TMPDIR={self.short}"


@dataclass
class Run:
    """A run that was started: its directory and its process."""

    path: Path
    process: subprocess.Popen[str]
    output: str = ""

    def end(self) -> int:
        """Wait for the exit status and keep what was printed."""
        self.output = self.process.communicate(timeout=SECONDS)[0]
        return self.process.returncode


@pytest.fixture
def place(tmp_path: Path, leftovers: Any) -> Iterator[Place]:
    """Where a test starts things; nothing of them may be left when it ends."""
    # Not below tmp_path: Ray's sockets need a short path.
    short = Path(tempfile.mkdtemp(prefix="dc-", dir="/tmp"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONDONTWRITE"))}
    yield Place(tmp_path, short, {**kept, "TMPDIR": str(short), "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"})
    for process in leftovers.processes_with(f"TMPDIR={short}"):
        os.kill(process, 9)
    shutil.rmtree(short, ignore_errors=True)


@pytest.fixture
def start(place: Place) -> Callable[..., Run]:
    """`start("epochs=3", torchrun=2, FAULT="exit")` starts `launch_run.py`, under torchrun, with FAULT in its environment."""

    def begin(*settings: str, torchrun: int = 0, name: str = "run", **variables: str) -> Run:
        path = place.path / name
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"] if torchrun else []
        words = [str(HERE / "launch_run.py"), str(path), f"data.cache_dir={place.path / 'cache'}", *settings]
        process = subprocess.Popen(
            [sys.executable, *launcher, *words],
            cwd=place.path,
            env={**place.environment, "FAULT_ONCE": str(place.path / "fault"), **variables},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return Run(path, process)

    return begin


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """`wait_for(condition, what)`: until it holds."""

    def wait(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
            time.sleep(0.05)

    return wait


@pytest.fixture(scope="session")
def leftovers() -> Any:
    """The module `leftovers.py`."""
    # By path: in pytest's importlib mode the folder of the tests is not on sys.path.
    spec = importlib.util.spec_from_file_location("leftovers", HERE / "leftovers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
