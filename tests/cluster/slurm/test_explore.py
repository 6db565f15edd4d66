"""A job that explores a search space: judged by what its profile asks for, not by the machine that submits it."""

from __future__ import annotations

from typing import Any

import pytest

LARGE = {"mode": "ray", "nodes": 2, "cpus_per_task": 64, "gpus_per_node": 4}


def plan(bench: Any, *words: str, **profile: Any) -> tuple[int, str, str]:
    found: tuple[int, str, str] = bench.call(
        "plan", "--tune", "noise_scale", "budget=small", *words, "--profile", bench.profile(**profile)
    )
    return found


def test_job_may_exceed_the_submitting_machine(bench: Any) -> None:
    status, out, error = plan(bench, "launch.workers=8", "launch.device=cuda", "launch.cpus_per_worker=16", **LARGE)
    assert status == 0, error
    assert "-m distcond.tune noise_scale budget=small launch.workers=8" in out
    assert not bench.sweep.path.exists()


def test_grace_follows_signal_seconds_unless_set(bench: Any) -> None:
    assert "launch.grace=140 dir=" in plan(bench, **LARGE, signal_seconds=180)[1]
    told = plan(bench, "launch.grace=50", **LARGE, signal_seconds=180)[1]
    assert told.count("launch.grace=") == 1 and "launch.grace=50 dir=" in told


REFUSED = {
    "workers": (("launch.workers=9",), LARGE, ("launch.workers=9: ", "1 to 8")),
    "gpu": (("launch.device=cuda",), {}, ("launch.device=cuda: ",)),
    "cores": (("launch.workers=3",), {"cpus_per_task": 2}, ("launch.workers=3", "2 cores")),
    "tasks": ((), {"tasks_per_node": 2}, ("2 tasks", "mode=plain", "ray")),
    "dir": (("dir=elsewhere",), {}, ("dir: ", "--tune")),
    "search": (("search=random", "search_seed=-1"), {}, ("search_seed=-1: ",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_never_run_is_one_line(case: str, bench: Any) -> None:
    words, profile, said = REFUSED[case]
    status, out, error = plan(bench, *words, **profile)
    assert (status, out) == (2, ""), error
    assert all(word in error for word in said) and error.count("\n") == 1
