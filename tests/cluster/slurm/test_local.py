"""The profile that works everywhere: processes of this machine, one after the other, that outlive the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_runs_of_this_machine(bench: Any, small: tuple[str, ...], slow_runs: Any) -> None:
    variables = {"FAULT": "exit", "FAULT_STEP": 2, "FAULT_RANK": 0, "FAULT_ONCE": bench.path / "fault"}
    variables |= slow_runs(bench)
    profile = bench.profile(executor="local", signal_seconds=20, environment=variables)
    words = [*small, "--grid", "method=float,faulty:METHOD", "--profile", profile]
    assert apart(bench, "submit", *words).startswith("2 of 2 runs submitted")
    assert "2 submitted or finished before" in bench.call("submit", *words)[1]
    found = bench.settle()
    assert [one.state for one in found] == ["finished", "failed"], bench.logs()
    assert found[1].detail == "ended with status 7"
    assert "1 submitted again" in apart(bench, "retry")
    bench.in_training(1)
    assert bench.call("cancel")[1] == "1 job(s) cancelled\n"
    bench.settle()
    bench.swift()
    apart(bench, "retry")
    assert {one.state for one in bench.settle()} == {"finished"}, bench.logs()
    assert "of 2 of 2 runs" in bench.call("gather")[1]


def apart(bench: Any, command: str, *words: str) -> str:
    """What a command in a process of its own prints: who reads it must not wait for the runs that it starts."""
    line = [sys.executable, "-m", "cluster.slurm", command, str(bench.sweep.path), *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout
