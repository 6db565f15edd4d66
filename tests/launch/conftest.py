"""Runs in processes of their own: their signals, environment and leftovers are tested too."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import launch_run, leftovers, processes
from support.ray_cluster import Ray
from support.ray_nodes import RayNodes

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: So that Ray ignores memory and disk that other processes use.
IGNORE_FULL_MACHINE = {"RAY_memory_monitor_refresh_ms": "0", "RAY_local_fs_capacity_threshold": "1"}


@dataclass
class Run:
    """A started run: its directory and its process."""

    path: Path
    process: processes.Process

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return self.process.output

    def end(self) -> int:
        """Wait for the exit status."""
        return self.process.wait()


@dataclass
class Place:
    """A directory, a short one for TMPDIR, and the environment of all processes that a test starts."""

    path: Path
    short: Path
    environment: dict[str, str]

    @property
    def mark(self) -> str:
        """`NAME=VALUE` in the environment of all processes of the test."""
        return f"TMPDIR={self.short}"

    def words(self, *settings: str) -> list[str]:
        """The arguments of `support.launch_run` for a run here. All tests share the converted digits."""
        return [str(self.path / "run"), f"data.cache_dir={self.path.parent / 'digits'}", *settings]

    def start(self, *settings: str, torchrun: int = 0, joins: Ray | None = None, **variables: str) -> Run:
        """Start a run: plainly, under torchrun, or on an existing Ray cluster, with variables such as FAULT."""
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"] if torchrun else []
        variables = {"FAULT_ONCE": str(self.path / "fault"), **variables}
        environment = self.joining(joins, **variables) if joins else {**self.environment, **variables}
        command = [sys.executable, *launcher, launch_run.__file__, *self.words(*settings)]
        return Run(self.path / "run", processes.start(command, cwd=self.path, env=environment))

    def joining(self, ray: Ray, **variables: str) -> dict[str, str]:
        """The environment to join a Ray cluster. Its workers get only PYTHONPATH, which leads them to `faults.json`."""
        (self.path / "faults.json").write_text(json.dumps(variables))
        path = f"{self.path}{os.pathsep}{self.environment['PYTHONPATH']}"
        return {**self.environment, **variables, **ray.joining, "PYTHONPATH": path}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Where a test starts runs. Processes that it leaves are killed."""
    with _place(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def placed() -> Any:
    """`with placed(path) as place`, for fixtures that live longer than a test."""
    return _place


@pytest.fixture(scope="session")
def torchrun_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A finished run of `support.launch_run`: three epochs in two torchrun processes."""
    with _place(tmp_path_factory.mktemp("torchrun")) as made:
        run = made.start("launch=local", "epochs=3", torchrun=2)
        assert run.end() == 0, run.output
        yield run


@pytest.fixture
def ray_nodes(place: Place, request: pytest.FixtureRequest) -> Iterator[RayNodes]:
    """A Ray cluster of one node with one core, or as many as the parameter says; `add(2)` adds a node.

    `method=faulty:METHOD` is slow there.
    """
    faulty = {"FAULT_SLOW": str(place.path / "swift"), "FAULT_SLOW_SECONDS": "1"}
    with RayNodes(place.short, place.environment | faulty, cpus=getattr(request, "param", 1)) as nodes:
        yield nodes


@pytest.fixture
def mounts() -> None:
    """Skips the test where nodes cannot have separate file systems."""
    reason = RayNodes.why_no_mounts()
    if reason:
        pytest.skip(reason)


@contextmanager
def _place(path: Path) -> Iterator[Place]:
    # Not below tmp_path: Ray's sockets need a short path.
    short = Path(tempfile.mkdtemp(prefix="dc-", dir="/tmp"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONDONTWRITE"))}
    try:
        paths = f"{ROOT}{os.pathsep}{HERE}"
        # One thread, as in Ray's workers: with two, the order of sums differs.
        variables = {"TMPDIR": str(short), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **IGNORE_FULL_MACHINE}
        yield Place(path, short, {**kept, **variables})
    finally:
        while left := leftovers.processes_with(f"TMPDIR={short}"):
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, 9)
        shutil.rmtree(short, ignore_errors=True)
