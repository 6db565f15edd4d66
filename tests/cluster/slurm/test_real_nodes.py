"""On a real SLURM: one run over two nodes, by plain DDP and on a Ray of its own."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from distcond.results.store import read_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def test_plain_ddp_over_two_nodes(separate: Any, bench: Any) -> None:
    bench.submit(nodes=2)
    (found,) = bench.settle()
    assert found.state == "finished", bench.logs()
    assert {row.world_size for row in read_rows(found.run.run_dir)} == {2}


def test_a_rank_that_dies_does_not_hang_the_other(separate: Any, bench: Any, slow_runs: Any) -> None:
    variables = {"FAULT": "exit", "FAULT_STEP": 2, "FAULT_RANK": 1, "FAULT_ONCE": bench.path / "fault"}
    # Of gloo's own patience, ten minutes, nothing must be needed.
    bench.submit("method=faulty:METHOD", "launch.timeout=600", nodes=2, environment=variables)
    (found,) = bench.settle()
    assert found.state == "failed", found
    bench.call("retry")
    assert bench.settle()[0].state == "finished", bench.logs()


@pytest.mark.ray
def test_ray_over_two_nodes_comes_and_goes_with_the_job(separate: Any, bench: Any, slow_runs: Any) -> None:
    long = ("method=faulty:METHOD", "epochs=3", "eval.every=3", "train_examples=1200", "batch_size=32")
    variables = {**_tested_ray(), **slow_runs(bench)}
    profile = {"mode": "ray", "nodes": 2, "cpus_per_task": 2, "memory_gb": 3.5, "environment": variables}
    bench.submit("launch.workers=2", "launch.timeout=3000", *long, **profile)  # patience on a slow machine
    bench.in_training()
    folder = next((bench.sweep.path / "ray").iterdir())
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    assert _with_token(folder) != []
    separate.ask(f"scancel --signal=USR2 {folder.name.partition('-')[0]}")
    assert bench.interrupted()["why"] == "requeued", bench.logs()
    bench.swift()
    (found,) = bench.settle()
    assert found.state == "finished", bench.logs()
    assert (folder.parent / f"{folder.name[:-1]}1").is_dir(), bench.logs()
    assert len(json.loads((Path(found.run.run_dir) / "starts.json").read_text())) == 2, bench.logs()
    said = "".join(file.read_text() for file in bench.sweep.jobs.glob("*_0_log.err"))
    assert "stopped: checkpoint in epoch" in said
    assert {row.world_size for row in read_rows(found.run.run_dir)} == {2}
    bench.wait(lambda _: separate.ask("squeue -h") == "", "the end of the job")
    assert _with_token(folder.parent) == []
    assert not list(Path("/tmp").glob(f"dc-{folder.name[:-1]}*"))
    assert not list(folder.parent.glob("*/token"))


def _tested_ray() -> dict[str, str]:
    """What the tests want of a Ray, without the mode of authentication, which is the launcher's to set."""
    return {name: os.environ[name] for name in ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "RAY_TRAIN_ENABLE_PRINT_PATCH")}


def _with_token(folder: Path) -> list[str]:
    """Processes of this job's Ray, on any node: all their process tables are part of the machine's."""
    mark, found = f"RAY_AUTH_TOKEN_PATH={folder}/".encode(), []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found
