"""On a real SLURM: arrays, errors, killed processes, refusals and cancelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distcond.results.store import read_rows

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.fixture(autouse=True)
def faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `method=faulty:METHOD` and `hungry:METHOD` importable here and in jobs."""
    monkeypatch.syspath_prepend(str(LAUNCH))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("PYTHONPATH", f"{LAUNCH}:{Path(__file__).parent}")


def fault(bench: Any, kind: str, step: int = 2, rank: int = 0) -> dict[str, Any]:
    """Environment variables of a fault that happens once."""
    return {"FAULT": kind, "FAULT_STEP": step, "FAULT_RANK": rank, "FAULT_ONCE": bench.path / "fault"}


def test_array_with_errors_is_retried_and_gathered(slurm: Any, bench: Any) -> None:
    grid = ("--grid", "method=float,faulty:METHOD", "--parallel", "2")
    bench.submit(*grid, environment=fault(bench, "raise"))
    found = bench.settle()
    ids = {one.job.split("_")[0] for one in found}
    assert len(ids) == 1, found
    assert [one.state for one in found] == ["finished", "failed"], bench.logs()
    failed = found[1:]
    assert "ended with status 1" in failed[0].detail, found
    assert "ValueError: the fault of worker 0" in bench.call("logs", failed[0].run.run_id)[1]
    again = bench.call("retry")
    assert "1 submitted again" in again[1], again
    assert {one.state for one in bench.settle()} == {"finished"}, bench.logs()
    assert "nothing to retry" in bench.call("retry")[1]
    assert "of 2 of 2 runs" in bench.call("gather")[1]
    assert len({row.run_id for row in read_rows(bench.sweep.path / "gathered")}) == 2


def test_exit_status_of_a_dead_run(slurm: Any, bench: Any) -> None:
    bench.submit("method=faulty:METHOD", environment=fault(bench, "exit"))
    (found,) = bench.settle()
    assert (found.state, found.detail.partition(" on ")[0]) == ("failed", "failed"), found
    assert found.detail.endswith("ended with status 7"), found


def test_cancel_ends_running_and_waiting_jobs(slurm: Any, bench: Any) -> None:
    variables = fault(bench, "wait")
    bench.submit("method=faulty:METHOD", "--seeds", "0,1", "--parallel", "1", environment=variables)
    bench.wait(lambda _: variables["FAULT_ONCE"].exists(), "the fault")
    error = bench.call("gather")[2]
    assert "no run has results yet (2 runs: " in error and "waiting); see `status`" in error and "failed" not in error
    assert bench.call("cancel")[1] == "2 job(s) cancelled\n"
    for one in bench.settle():
        assert one.state == "failed" and one.detail.startswith("cancelled"), one
    assert slurm.ask("squeue -h --states=running,pending") == ""


def test_impossible_request_is_refused_with_slurms_reason(slurm: Any, bench: Any) -> None:
    status, _, error = bench.call("submit", "--profile", bench.profile(gpus_per_node=3, tasks_per_node=3))
    assert status == 2
    assert error.startswith("error: sbatch refuses (")
    assert "Requested node configuration is not available" in error
    assert "gpus_per_node=3" in error
    assert "not submitted" in bench.call("status")[1]


def test_out_of_memory_is_reported(slurm: Any, bench: Any) -> None:
    if not slurm.abilities["cgroups"]:
        pytest.skip("SLURM cannot confine memory here (no writable cgroup v1)")
    bench.submit("method=hungry:METHOD", memory_gb=1)
    (found,) = bench.settle()
    assert found.state == "failed"
    assert "killed by SIGKILL" in found.detail or "out of memory" in found.detail, found
    assert "oom" in bench.logs().lower()
