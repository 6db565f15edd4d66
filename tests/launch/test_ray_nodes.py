"""Runs on several Ray nodes, each with its own address and, where possible, its own file system."""

from __future__ import annotations

from typing import Any

import pytest

from distcond.results import history
from distcond.runs.attempts import last_attempt, last_world_size
from support.ray_nodes import RayNodes
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(1800)]

RAY = ("launch=ray", "launch.workers=2")


def test_elastic_run_shrinks_and_grows(place: Any, ray_nodes: RayNodes) -> None:
    ray_nodes.add(2)
    settings = ("method=faulty:METHOD", "epochs=100", "launch.timeout=60", "eval.every=0", "launch.max_failures=1")
    run = place.start(*RAY, *settings, "launch.min_workers=1", **ray_nodes.joining)

    def wait_for(attempt: int, workers: int) -> None:
        started = lambda: last_attempt(run.path) == attempt and history.read(run.path)  # noqa: E731
        wait_until(started, f"attempt {attempt}", process=run.process)
        assert last_world_size(run.path) == workers

    wait_for(0, workers=2)
    ray_nodes.lose(2)
    wait_for(1, workers=1)
    ray_nodes.add(3)
    wait_for(2, workers=2)
    (place.path / "swift").touch()
    assert run.end() == 0, run.output
    assert [record["epoch"] for record in history.read(run.path)] == list(range(1, 101))
    lost, grown = (line for line in run.output.splitlines() if line.startswith("attempt "))
    assert "; 1 worker instead of 2: " in lost and "BN statistics" in lost
    assert grown.startswith("attempt 2: ") and "more workers are available" in grown


def test_node_without_the_run_directory_is_refused(place: Any, mounts: None, ray_nodes: RayNodes) -> None:
    ray_nodes.add(2, own=place.path)
    refused = place.start(*RAY, **ray_nodes.joining)
    assert refused.end() == 2, refused.output
    last = refused.output.splitlines()[-1]
    assert last.startswith(f"error: run_root: node {ray_nodes.host(2)} ") and str(refused.path) in last
    assert not (refused.path / ".shared").exists()
