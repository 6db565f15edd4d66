"""A real SLURM for tests that are marked `cluster`, and sweeps of runs that take seconds."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.slurm.status import RunStatus, run_statuses
from cluster.slurm.sweep import Sweep, read_exit_records
from support.processes import LIMIT
from support.waiting import wait_until

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "tests" / "slurm_cluster"
LAUNCH = ROOT / "tests" / "launch"
SMALL = (
    "model.widths=4,8", "train_examples=256", "batch_size=64", "epochs=1",
    "eval.test_examples=20", "eval.val_examples=20", "eval.train_examples=0", "eval.lam_grid=0,1", "attack.num_steps=2",
    "eval.attack.num_steps=2", "data.loader=memory",
)  # fmt: skip
#: Seconds for several jobs in sequence.
PATIENCE = 3 * LIMIT
#: States of unfinished runs.
ACTIVE = {"running", "waiting"}


@dataclass
class Cluster:
    """A running SLURM, and what it supports on this machine."""

    abilities: dict[str, bool] = field(default_factory=dict)

    def node(self, command: str, name: str) -> None:
        """Switch a node "on" or "off"."""
        subprocess.run([sys.executable, str(CLUSTER), command, name], check=True, timeout=LIMIT)

    def ask(self, command: str) -> str:
        """The output of one of SLURM's programs."""
        return subprocess.run(command.split(), check=True, capture_output=True, text=True, timeout=LIMIT).stdout.strip()


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    """A SLURM of four nodes, the only one on this machine, removed after the tests."""
    with open("/tmp/distcond-slurm-tests.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pytest.skip("another run of the tests has its SLURM up on this machine")
        up = subprocess.run([sys.executable, str(CLUSTER), "up"], capture_output=True, text=True, timeout=PATIENCE)
        if up.returncode == 3:
            pytest.skip(up.stdout.strip())
        assert up.returncode == 0, up.stderr
        before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = "/run/distcond-slurm/slurm.conf"
        found = dict(word.split("=") for word in up.stdout.split())
        try:
            yield Cluster({name: value == "True" for name, value in found.items()})
        finally:
            if before is None:
                del os.environ["SLURM_CONF"]
            subprocess.run([sys.executable, str(CLUSTER), "down"], check=True, timeout=LIMIT)


@pytest.fixture
def separate(slurm: Cluster) -> Cluster:
    """The same, with nodes that have their own networks and processes."""
    if not slurm.abilities["namespaces"]:
        pytest.skip("nodes cannot have networks and processes of their own here (no namespaces)")
    return slurm


@dataclass
class Bench:
    """The sweep of a test, and its commands."""

    path: Path

    @property
    def sweep(self) -> Sweep:
        """The sweep as a new process reads it."""
        return Sweep(self.path / "sweep")

    def profile(self, **keys: Any) -> str:
        """Write a profile for the tests' SLURM; tables such as `environment` are dicts. Returns its path."""
        values = {"cpus_per_task": 1, "memory_gb": 1.5, "time_min": 60, "signal_seconds": 60, "shared_tmp": True} | keys
        tables = {key: values.pop(key, {}) for key in ("environment", "sbatch", "container")}
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        for key, table in ((key, table) for key, table in tables.items() if table):
            lines += [f"[{key}]", *(f"{name} = {json.dumps(str(value))}" for name, value in table.items())]
        (self.path / "profile.toml").write_text("\n".join(lines))
        return str(self.path / "profile.toml")

    def call(self, command: str, *args: str) -> tuple[int, str, str]:
        """Status, standard output and standard error of `python -m cluster.slurm COMMAND SWEEP ARGS`."""
        from cluster.slurm.__main__ import main
        from distcond.config.command_line import run_cli

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            run_cli(lambda: main([command, str(self.sweep.path), *args]))
        return int(end.value.code or 0), out.getvalue(), err.getvalue()

    def submit(self, *args: str, **profile: Any) -> list[RunStatus]:
        """Submit runs with these arguments after `SMALL`. Returns their statuses."""
        cache = f"data.cache_dir={self.path / 'cache'}"
        status, _, error = self.call("submit", *SMALL, cache, *args, "--profile", self.profile(**profile))
        assert status == 0, error
        return run_statuses(self.sweep)

    def wait(self, holds: Callable[[list[RunStatus]], bool], what: str) -> list[RunStatus]:
        """Wait until `holds(statuses)`. Returns the statuses."""
        statuses: list[RunStatus] = []

        def check() -> bool:
            statuses[:] = run_statuses(self.sweep)
            return holds(statuses)

        try:
            wait_until(check, what, PATIENCE, every=0.3)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.call('status')[1]}{self.logs()}") from None
        return statuses

    def settle(self) -> list[RunStatus]:
        """Wait until no run is active. Returns the statuses."""
        return self.wait(lambda found: not {one.state for one in found} & ACTIVE, "the end")

    def in_training(self, number: int = 0, epoch: int = 0) -> None:
        """Wait until the progress file of a run says that it trains in this epoch or a later one."""
        file = Path(self.sweep.runs[number].run_dir) / "progress.json"

        def trains(found: list[RunStatus]) -> bool:
            assert found[number].state in ACTIVE, found[number]
            return file.exists() and json.loads(file.read_text()).get("epoch", -1) >= epoch

        self.wait(trains, "training")

    def speed_up(self) -> None:
        """Let slow runs continue at full speed."""
        (self.path / "swift").touch()

    def interrupted(self) -> dict[str, Any]:
        """Wait for the exit record of the first run's job. Returns it."""
        name = self.sweep.runs[0].run_id

        def ended(found: list[RunStatus]) -> bool:
            recorded = name in read_exit_records(self.sweep.path)
            assert recorded or found[0].state in ACTIVE, found[0]
            return recorded

        self.wait(ended, "the end of the first job")
        return read_exit_records(self.sweep.path)[name]

    def logs(self) -> str:
        """The last part of all output of jobs."""
        files = sorted(self.sweep.jobs.glob("*_log.*"))
        return "\n".join(f"{file.name}:\n{file.read_text()[-6000:]}" for file in files)


@pytest.fixture(scope="module")
def slow_runs() -> Iterator[Callable[..., dict[str, Any]]]:
    """`slow_runs(bench)`: variables that make `method=faulty:METHOD` slow until `bench.speed_up()`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(LAUNCH))
        patch.setenv("PYTHONPATH", f"{ROOT}:{LAUNCH}")
        yield lambda bench: {"FAULT_SLOW": bench.path / "swift"}


@pytest.fixture
def small(bench: Bench) -> tuple[str, ...]:
    """Settings of a run that takes seconds."""
    return (*SMALL, f"data.cache_dir={bench.path / 'cache'}")


@pytest.fixture(scope="session")
def make_bench() -> Iterator[Callable[[], Bench]]:
    """`make_bench()`: a bench that lasts for the session."""
    made: list[Path] = []

    def make() -> Bench:
        # Not tmp_path, whose path is too long for some tools, and which is kept.
        made.append(Path(tempfile.mkdtemp(prefix="dcs-")))
        return Bench(made[-1])

    yield make
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def bench(make_bench: Callable[[], Bench]) -> Bench:
    """An empty bench."""
    return make_bench()
