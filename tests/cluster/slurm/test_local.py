"""The local profile: processes on this machine, one after the other, that outlive the command."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.slurm.sweep import read_exit_records
from support.processes import LIMIT

ROOT = Path(__file__).parents[3]


@pytest.mark.cluster
@pytest.mark.timeout(2400)
def test_local_runs_fail_and_are_retried(bench: Any, small: tuple[str, ...], slow_runs: Any) -> None:
    variables = {"FAULT": "exit", "FAULT_STEP": 2, "FAULT_RANK": 0, "FAULT_ONCE": bench.path / "fault"}
    profile = bench.profile(executor="local", signal_seconds=20, environment=variables)
    args = [*small, "--grid", "method=float,faulty:METHOD", "--profile", profile]
    assert run_command(bench, "submit", *args).startswith("2 of 2 runs submitted")
    assert "2 submitted or finished before" in bench.call("submit", *args)[1]
    statuses = bench.settle()
    assert [one.state for one in statuses] == ["finished", "failed"], bench.logs()
    assert statuses[1].detail == "ended with status 7"
    assert "1 submitted again" in run_command(bench, "retry")
    assert {one.state for one in bench.settle()} == {"finished"}, bench.logs()
    assert "of 2 of 2 runs" in bench.call("gather")[1]


@pytest.mark.cluster
@pytest.mark.timeout(2400)
def test_cancelled_local_runs_leave_no_process(bench: Any, small: tuple[str, ...], slow_runs: Any) -> None:
    profile = bench.profile(executor="local", signal_seconds=20, parallel=1, environment=slow_runs(bench))
    long = ("method=faulty:METHOD", "epochs=20", "eval.every=20", "--seeds", "0,1")
    run_command(bench, "submit", *small, *long, "--profile", profile)
    bench.wait(lambda statuses: any("epoch" in one.detail for one in statuses), "training")
    assert bench.call("cancel")[1] == "2 job(s) cancelled\n"
    statuses = bench.settle()
    assert not find_processes(bench.path)
    reasons = {"stopped with a checkpoint": True, "stopped before it began": False}
    assert {one.detail: Path(one.run.run_dir, "starts.json").exists() for one in statuses} == reasons, bench.logs()
    assert [end["status"] for end in read_exit_records(bench.sweep.path).values()] == [143, 143]
    bench.speed_up()
    assert "2 submitted again" in run_command(bench, "retry")
    assert {one.state for one in bench.settle()} == {"finished"}, bench.logs()


def find_processes(path: Path) -> list[str]:
    """Processes with the path in their command line or environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            if str(path).encode() in command + (folder / "environ").read_bytes():
                found.append(f"{folder.name} {command!r}")
    return found


def run_command(bench: Any, command: str, *args: str) -> str:
    """The output of a command in its own process, which must not wait for the runs that it starts."""
    line = [sys.executable, "-m", "cluster.slurm", command, str(bench.sweep.path), *args]
    done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout
