"""Runs are started in processes of their own: signals, environment and leftovers are part of what is tested."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import support.leftovers
from support.processes import LIMIT
from support.ray_nodes import RayNodes
from support.same_end import same_end as compare
from support.waiting import wait_until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: For a Ray: a machine that others fill must not end a test.
ROOMY = {"RAY_memory_monitor_refresh_ms": "0", "RAY_local_fs_capacity_threshold": "1"}


@dataclass
class Run:
    """A run that was started: its directory and its process."""

    path: Path
    process: subprocess.Popen[str]
    output: str = ""

    def end(self) -> int:
        """Wait for the exit status and keep what was printed."""
        self.output = self.process.communicate(timeout=LIMIT)[0]
        return self.process.returncode


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

    def start(self, *settings: str, torchrun: int = 0, **variables: str) -> Run:
        """Start `launch_run.py` with settings, as it is or under torchrun, and variables such as FAULT."""
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"] if torchrun else []
        words = [
            str(HERE / "launch_run.py"),
            str(self.path / "run"),
            f"data.cache_dir={self.path / 'cache'}",
            *settings,
        ]
        process = subprocess.Popen(
            [sys.executable, *launcher, *words],
            cwd=self.path,
            env={**self.environment, "FAULT_ONCE": str(self.path / "fault"), **variables},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return Run(self.path / "run", process)


@pytest.fixture
def place(tmp_path: Path, leftovers: Any) -> Iterator[Place]:
    """Where a test starts things; what it leaves running is killed."""
    with _place(tmp_path, leftovers) as made:
        yield made


@pytest.fixture(scope="session")
def placed(leftovers: Any) -> Callable[[Path], Any]:
    """`with placed(path) as place`, for fixtures that live longer than a test."""
    return lambda path: _place(path, leftovers)


@pytest.fixture(scope="session")
def torchrun_run(tmp_path_factory: pytest.TempPathFactory, leftovers: Any) -> Iterator[Run]:
    """The run of `launch_run.py` that two torchrun processes have finished."""
    with _place(tmp_path_factory.mktemp("torchrun"), leftovers) as made:
        run = made.start("launch=local", torchrun=2)
        assert run.end() == 0, run.output
        yield run


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """`wait_for(condition, what)`: until it holds."""
    return wait_until


@pytest.fixture(scope="session")
def leftovers() -> Any:
    """The module `support.leftovers`."""
    return support.leftovers


@pytest.fixture
def ray_nodes(place: Place, leftovers: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A Ray of one node with one core, or as many as the parameter says; `add(2)` adds another (`support.ray_nodes`).

    Faulty runs are slow there.
    """
    faulty, cpus = {"FAULT_SLOW": str(place.path / "swift")}, getattr(request, "param", 1)
    with RayNodes(place.short, place.environment | faulty, cpus=cpus) as nodes:
        yield nodes


@pytest.fixture
def mounts(ray_nodes: Any) -> None:
    """Only where nodes can have files of their own."""
    reason = ray_nodes.why_no_mounts()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def same_end() -> Callable[[Path, Path], None]:
    """`same_end(one, other)` asserts that two runs came to the same end, bit for bit."""
    return compare


@contextmanager
def _place(path: Path, leftovers: Any) -> Iterator[Place]:
    # Not below tmp_path: Ray's sockets need a short path.
    short = Path(tempfile.mkdtemp(prefix="dc-", dir="/tmp"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONDONTWRITE"))}
    try:
        paths = f"{ROOT}{os.pathsep}{HERE}"
        # One thread each, as Ray's workers have: with two, sums are taken in another order.
        own = {"TMPDIR": str(short), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **ROOMY}
        yield Place(path, short, {**kept, **own})
    finally:
        for process in leftovers.processes_with(f"TMPDIR={short}"):
            with suppress(ProcessLookupError):
                os.kill(process, 9)
        shutil.rmtree(short, ignore_errors=True)
