"""`--tune` jobs: checked against the nodes of their profile, not against this machine."""

from __future__ import annotations

from typing import Any

import pytest

LARGE = {"mode": "ray", "nodes": 2, "cpus_per_task": 64, "gpus_per_node": 4}


def plan(bench: Any, *args: str, **profile: Any) -> tuple[int, str, str]:
    found: tuple[int, str, str] = bench.call(
        "plan", "--tune", "noise_scale", "budget=small", *args, "--profile", bench.profile(**profile)
    )
    return found


def test_job_may_exceed_the_submitting_machine(bench: Any) -> None:
    status, out, error = plan(bench, "launch.workers=8", "launch.device=cuda", "launch.cpus_per_worker=16", **LARGE)
    assert status == 0, error
    assert "-m distcond.tune noise_scale budget=small launch.workers=8" in out
    assert not bench.sweep.path.exists()


def test_grace_follows_signal_seconds_unless_set(bench: Any) -> None:
    assert "launch.grace=140 dir=" in plan(bench, **LARGE, signal_seconds=180)[1]
    out = plan(bench, "launch.grace=50", **LARGE, signal_seconds=180)[1]
    assert out.count("launch.grace=") == 1 and "launch.grace=50 dir=" in out


REFUSED = {
    "workers": (("launch.workers=9",), LARGE, ("launch.workers=9: ", "1 to 8")),
    "gpu": (("launch.device=cuda",), {}, ("launch.device=cuda: ",)),
    "cores": (("launch.workers=3",), {"cpus_per_task": 2}, ("launch.workers=3", "2 cores")),
    "tasks": ((), {"tasks_per_node": 2}, ("2 tasks", "mode=plain", "ray")),
    "dir": (("dir=elsewhere",), {}, ("dir: ", "--tune")),
    "search": (("search=random", "search_seed=-1"), {}, ("search_seed=-1: ",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_jobs_are_refused(case: str, bench: Any) -> None:
    args, profile, parts = REFUSED[case]
    status, out, error = plan(bench, *args, **profile)
    assert (status, out) == (2, ""), error
    assert all(part in error for part in parts) and error.count("\n") == 1
