"""Status of runs from the output of SLURM's programs, which scripts on PATH replace."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.slurm.gather import export_trials
from cluster.slurm.profile import parse_profile
from cluster.slurm.runs import Run
from cluster.slurm.status import run_statuses
from cluster.slurm.sweep import Sweep
from distcond.tuning.sweep_report.read import read_sweep


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Twelve runs, submitted as one array."""
    made = Sweep(tmp_path / "sweep")
    runs = [Run(f"run-{n}", str(tmp_path / "runs" / f"run-{n}"), "float_digits", {"seed": n}) for n in range(12)]
    made.create(runs, parse_profile({}, "test"), created="2026-01-01T00:00:00", host="here")
    made.record_submission(name="s", runs=[run.run_id for run in runs[:11]], time=0.0)
    made.record_submission(name="s", jobs=[f"7_{n}" for n in range(11)])
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Sweep(made.path)


def program(tmp_path: Path, name: str, lines: list[str], status: int = 0) -> None:
    """A script that prints these lines and counts its calls."""
    (tmp_path / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    out = " >&2" if status else ""
    script = f"echo x >>{tmp_path}/{name}.calls\ncat {tmp_path}/{name}.txt{out}\nexit {status}\n"
    (tmp_path / name).write_text(f"#!/bin/sh\n{script}")
    (tmp_path / name).chmod(0o755)


def write(run: Run, name: str, value: dict[str, Any]) -> None:
    Path(run.run_dir).mkdir(parents=True, exist_ok=True)
    Path(run.run_dir, name).write_text(json.dumps(value))


def test_every_state_has_its_reason(sweep: Sweep, tmp_path: Path) -> None:
    shown = ["7_0|s|RUNNING|None|n1", "7_1|s|RUNNING|None|n1", "7_2|s|PENDING|Priority|", "7_3|s|PENDING|BeginTime|"]
    shown += ["7_4|s|TIMEOUT|TimeLimit|n2", "7_9|s|COMPLETING|None|n1", "7_10|s|REQUEUE_HOLD|JobHeldUser|"]
    program(tmp_path, "squeue", shown)
    counted = ["7_3|s|NODE_FAIL|None|n4", "7_5|s|OUT_OF_MEMORY|None|n1", "7_6|s|CANCELLED by 1000|None|None assigned"]
    program(tmp_path, "sacct", [*counted, "7_[7-8]|s|PENDING|None|"])
    write(sweep.runs[1], "progress.json", {"stage": "train", "epoch": 2, "epochs": 9})
    write(sweep.runs[8], "finished.json", {})
    ended = sweep.path / "ended"
    ended.mkdir()
    (ended / "run-3.json").write_text(json.dumps({"why": "requeued"}))
    (ended / "run-7.json").write_text(json.dumps({"why": "ended with status 1"}))
    found = [(one.state, one.detail) for one in run_statuses(sweep)]
    assert found == [
        ("waiting", "has its nodes, starting"),
        ("running", "epoch 3 of 9, train"),
        ("waiting", "pending (Priority)"),
        # sacct says NODE_FAIL, but SLURM will run it again.
        ("waiting", "pending (BeginTime), requeued after: requeued"),
        ("failed", "timeout on n2"),
        ("failed", "out of memory on n1"),
        ("failed", "cancelled"),
        ("failed", "ended with status 1"),
        ("finished", ""),
        ("waiting", "has its nodes, starting"),
        ("waiting", "requeue_hold (JobHeldUser)"),
        ("missing", "not submitted"),
    ]


def test_running_jobs_are_not_gathered_as_failed(sweep: Sweep, tmp_path: Path) -> None:
    program(tmp_path, "squeue", ["7_0|s|RUNNING|None|n1", "7_1|s|PENDING|Priority|", "7_2|s|TIMEOUT|TimeLimit|n2"])
    program(tmp_path, "sacct", [])
    write(sweep.runs[0], "progress.json", {"stage": "train", "epoch": 2, "epochs": 9})
    write(sweep.runs[3], "finished.json", {})
    export_trials(run_statuses(sweep), tmp_path / "gathered")
    trials = read_sweep(tmp_path / "gathered").trials
    assert [trials[n].state for n in (0, 1, 2, 3, 11)] == ["running", "waiting", "failed", "finished", "waiting"]
    assert [trials[n].error for n in range(4)] == ["", "", "timeout on n2", ""]


def test_without_accounting_exit_records_are_used(sweep: Sweep, tmp_path: Path) -> None:
    program(tmp_path, "squeue", [])
    program(tmp_path, "sacct", ["Slurm accounting storage is disabled"], status=1)
    assert run_statuses(sweep)[0][1:] == ("failed", "7_0", "its job is gone without an exit record")


def test_unreachable_squeue_does_not_mean_jobs_are_gone(sweep: Sweep, tmp_path: Path, bench: Any) -> None:
    program(tmp_path, "squeue", ["slurm_load_jobs error: Unable to contact slurm controller"], status=1)
    program(tmp_path, "sbatch", [])
    program(tmp_path, "srun", [])
    bench.path = tmp_path
    for command in ("status", "retry"):
        status, _, error = bench.call(command)
        assert status == 2
        assert error.startswith("error: squeue ") and "slurm_load_jobs error: Unable to contact" in error
    assert len(sweep.submissions()) == 1


def test_slurm_is_queried_once_for_many_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Sweep(tmp_path / "many")
    runs = [Run(f"run-{n}", str(tmp_path / "runs" / f"run-{n}"), "float_digits", {"seed": n}) for n in range(500)]
    made.create(runs, parse_profile({}, "test"), created="2026-01-01T00:00:00", host="here")
    made.record_submission(name="s", runs=[run.run_id for run in runs], time=0.0)
    made.record_submission(name="s", jobs=[f"7_{n}" for n in range(500)])
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program(tmp_path, "squeue", [f"7_{n}|s|RUNNING|None|n1" for n in range(250)])
    program(tmp_path, "sacct", [f"7_{n}|s|FAILED|None|n1" for n in range(250, 500)])
    for run in runs:
        write(run, "progress.json", {"stage": "train", "epoch": 2, "epochs": 9})
    before = time.process_time()
    found = run_statuses(Sweep(made.path))
    assert time.process_time() - before < 3
    assert [one.state for one in found] == ["running"] * 250 + ["failed"] * 250
    assert (tmp_path / "squeue.calls").read_text() == "x\n"
    assert (tmp_path / "sacct.calls").read_text() == "x\n"
