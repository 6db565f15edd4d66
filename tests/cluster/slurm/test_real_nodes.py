"""On a real SLURM: a rank that dies, and Ray clusters that end with their jobs, on two nodes and on one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distcond.results.store import read_rows

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]


def test_dead_rank_does_not_hang_the_other(separate: Any, bench: Any, slow_runs: Any) -> None:
    # The other rank is in no collective, which a closed socket would end: it sleeps longer than `settle` waits.
    variables = {"FAULT": "desert", "FAULT_STEP": 2, "FAULT_RANK": 1, "FAULT_ONCE": bench.path / "fault"}
    bench.submit("method=faulty:METHOD", "launch.timeout=600", nodes=2, environment=variables)
    (found,) = bench.settle()
    assert found.state == "failed", found
    assert (bench.path / "fault.asleep").exists(), bench.logs()
    bench.call("retry")
    assert bench.settle()[0].state == "finished", bench.logs()


@pytest.mark.ray
def test_ray_on_two_nodes_ends_with_its_job(separate: Any, bench: Any, slow_runs: Any) -> None:
    long = ("method=faulty:METHOD", "epochs=3", "eval.every=3", "train_examples=1200", "batch_size=32")
    variables = {**_tested_ray(), **slow_runs(bench)}
    profile = {"mode": "ray", "nodes": 2, "cpus_per_task": 2, "memory_gb": 3.5, "environment": variables}
    bench.submit("launch.workers=2", "launch.timeout=3000", *long, **profile)  # for a slow machine
    bench.in_training()
    folder = next((bench.sweep.path / "ray").iterdir())
    assert not (folder / "token").exists()  # once every node has it
    assert _with_token(folder) != []
    separate.ask(f"scancel --signal=USR2 {folder.name.partition('-')[0]}")
    assert bench.interrupted()["why"] == "requeued", bench.logs()
    bench.speed_up()
    (found,) = bench.settle()
    assert found.state == "finished", bench.logs()
    assert (folder.parent / f"{folder.name[:-1]}1").is_dir(), bench.logs()
    assert len(json.loads((Path(found.run.run_dir) / "starts.json").read_text())) == 2, bench.logs()
    logs = "".join(file.read_text() for file in bench.sweep.jobs.glob("*_0_log.err"))
    assert "stopped: checkpoint in epoch" in logs
    assert {row.world_size for row in read_rows(found.run.run_dir)} == {2}
    bench.wait(lambda _: separate.ask("squeue -h") == "", "the end of the job")
    assert _with_token(folder.parent) == []
    assert not _temporary(folder.parent / folder.name[:-1])
    assert not list(folder.parent.glob("*/token"))


@pytest.mark.ray
def test_ray_error_does_not_affect_other_jobs(separate: Any, bench: Any, make_bench: Any, slow_runs: Any) -> None:
    job = {"mode": "ray", "memory_gb": 2.9, "sbatch": {"nodelist": "n1"}}
    other = make_bench()  # trains on its own Ray cluster on the same node
    slow = {**slow_runs(other), "FAULT_SLOW_SECONDS": 20}
    other.submit("method=faulty:METHOD", environment={**_tested_ray(), **slow}, **job)
    other.wait(lambda _: list(other.sweep.path.glob("ray/*/up")), "the Ray cluster of the other job")
    (foreign,) = (other.sweep.path / "ray").iterdir()
    before = [one for one in _with_token(foreign) if "/gcs_server" in one or "/raylet/raylet" in one]
    fault = {"FAULT": "raise", "FAULT_STEP": 2, "FAULT_RANK": 0, "FAULT_ONCE": bench.path / "fault"}
    bench.submit("method=faulty:METHOD", environment={**_tested_ray(), **fault}, **job)
    (found,) = bench.settle()
    assert found.state == "failed" and found.detail.endswith("ended with status 1"), f"{found}\n{bench.logs()}"
    assert "ValueError: the fault of worker 0" in bench.call("logs", found.run.run_id)[1]
    (folder,) = (bench.sweep.path / "ray").iterdir()
    assert (folder / "node-0.log").exists() and not (folder / "token").exists()
    assert (_with_token(folder), _temporary(folder)) == ([], [])
    assert len(before) == 2 and set(before) <= set(_with_token(foreign)), other.logs()
    assert _temporary(foreign)
    other.speed_up()
    (trained,) = other.settle()
    assert trained.state == "finished", other.logs()
    other.wait(lambda _: separate.ask("squeue -h") == "", "the end of the job")
    assert (_with_token(foreign), _temporary(foreign)) == ([], [])


def _tested_ray() -> dict[str, str]:
    """What the tests want of a Ray, without the mode of authentication, which is the launcher's to set."""
    return {name: os.environ[name] for name in ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "RAY_TRAIN_ENABLE_PRINT_PATCH")}


def _temporary(folder: Path) -> list[Path]:
    """Temporary directories of a Ray cluster on all nodes, which share this machine's disk."""
    return list(Path("/tmp").glob(f"dc-{folder.name}*"))


def _with_token(folder: Path) -> list[str]:
    """IDs and commands of a job's Ray processes on all nodes, which are processes of this machine."""
    mark, found = f"RAY_AUTH_TOKEN_PATH={folder}/".encode(), []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                found.append(f"{entry.name} {(entry / 'cmdline').read_text()}")
        except OSError:
            continue
    return found
