"""The profile that works everywhere: processes of this machine, one after the other, that outlive the command."""

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
def test_runs_of_this_machine(bench: Any, small: tuple[str, ...], slow_runs: Any) -> None:
    variables = {"FAULT": "exit", "FAULT_STEP": 2, "FAULT_RANK": 0, "FAULT_ONCE": bench.path / "fault"}
    profile = bench.profile(executor="local", signal_seconds=20, environment=variables)
    words = [*small, "--grid", "method=float,faulty:METHOD", "--profile", profile]
    assert apart(bench, "submit", *words).startswith("2 of 2 runs submitted")
    assert "2 submitted or finished before" in bench.call("submit", *words)[1]
    found = bench.settle()
    assert [one.state for one in found] == ["finished", "failed"], bench.logs()
    assert found[1].detail == "ended with status 7"
    assert "1 submitted again" in apart(bench, "retry")
    assert {one.state for one in bench.settle()} == {"finished"}, bench.logs()
    assert "of 2 of 2 runs" in bench.call("gather")[1]


@pytest.mark.cluster
@pytest.mark.timeout(2400)
def test_cancelled_local_runs_leave_no_process(bench: Any, small: tuple[str, ...], slow_runs: Any) -> None:
    profile = bench.profile(executor="local", signal_seconds=20, parallel=1, environment=slow_runs(bench))
    long = ("method=faulty:METHOD", "epochs=20", "eval.every=20", "--seeds", "0,1")
    apart(bench, "submit", *small, *long, "--profile", profile)
    bench.wait(lambda found: any("epoch" in one.detail for one in found), "training")
    assert bench.call("cancel")[1] == "2 job(s) cancelled\n"
    found = bench.settle()
    assert not processes(bench.path)
    why = {"stopped with a checkpoint": True, "stopped before it began": False}
    assert {one.detail: Path(one.run.run_dir, "starts.json").exists() for one in found} == why, bench.logs()
    assert [end["status"] for end in read_exit_records(bench.sweep.path).values()] == [143, 143]
    bench.swift()
    assert "2 submitted again" in apart(bench, "retry")
    assert {one.state for one in bench.settle()} == {"finished"}, bench.logs()


def processes(path: Path) -> list[str]:
    """Those that have to do with a path, by their words and variables."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes()
            if str(path).encode() in words + (folder / "environ").read_bytes():
                found.append(f"{folder.name} {words!r}")
    return found


def apart(bench: Any, command: str, *words: str) -> str:
    """What a command in a process of its own prints: who reads it must not wait for the runs that it starts."""
    line = [sys.executable, "-m", "cluster.slurm", command, str(bench.sweep.path), *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout
