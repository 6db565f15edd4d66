"""On a real SLURM: another user of the nodes gets nowhere in a job with its own Ray, and `scancel` leaves nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from support import second_user
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.timeout(2400)]
LONG = ("method=faulty:METHOD", "epochs=3", "eval.every=3", "train_examples=1200", "batch_size=32")


def test_second_user_cannot_enter_a_jobs_ray(
    slurm: Any, bench: Any, slow_runs: Any, open_path: Path, tmp_path: Path
) -> None:
    if reason := second_user.why_none():
        pytest.skip(reason)
    traps = _put_links(_next_job(slurm), open_path)
    try:
        profile = {"mode": "ray", "cpus_per_task": 2, "memory_gb": 3.5, "environment": slow_runs(bench)}
        bench.submit("launch.workers=1", "launch.timeout=3000", *LONG, **profile)
        bench.in_training()
        (job,) = [folder.name for folder in (bench.sweep.path / "ray").iterdir()]
        assert f"/tmp/dc-{job}-0" in map(str, traps), traps
        (temporary,) = [folder for folder in Path("/tmp").glob(f"dc-{job}-*") if folder not in traps]
        assert list(open_path.iterdir()) == [] and stat.S_IMODE(open_path.stat().st_mode) == 0o755
        assert list((temporary / "r").glob("session_*/sockets/*")) != []
        for place in (temporary, bench.sweep.path / "ray" / job):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
            assert second_user.do(lambda place=place: os.listdir(place)) == "PermissionError"
        assert not (bench.sweep.path / "ray" / job / "token").exists()  # once every node has it
        assert second_user.do(lambda: temporary.rename(f"{temporary}-x")) == "PermissionError"
        slurm.ask(f"scancel {job.partition('-')[0]}")
        bench.wait(lambda _: slurm.ask("squeue -h") == "", "the end of the job")
        wait_until(lambda: not temporary.exists(), "the end of the Ray")
        assert not list(bench.sweep.path.glob("ray/*/token"))
        assert [folder for folder in Path("/tmp").glob(f"dc-{job}-*") if folder not in traps] == []
    finally:
        for trap in traps:
            trap.unlink()


def _next_job(slurm: Any) -> int:
    line = next(line for line in slurm.ask("scontrol show config").splitlines() if line.startswith("NEXT_JOB_ID"))
    return int(line.partition("=")[2])


def _put_links(job: int, target: Path) -> list[Path]:
    """Links of the second user where an earlier version had a job's directory."""
    links = [Path(f"/tmp/dc-{number}{form}-0-0") for number in range(job, job + 3) for form in ("", "_0")]
    assert second_user.do(lambda: [link.symlink_to(target) for link in links]) == ""
    return links
