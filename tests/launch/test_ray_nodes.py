"""Runs over several nodes, each with an address of its own and, for files, a directory of its own."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from distcond.data.ffcv_import import ffcv_problem
from distcond.engine.run_dir import read_json
from distcond.launch.attempt import last_attempt, last_workers
from distcond.results import history
from support.ray_nodes import RayNodes
from support.same_end import same_end
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(1800)]

RAY = ("launch=ray", "launch.workers=2")


def test_two_nodes_equal_two_processes_with_own_images(
    place: Any, mounts: None, ray_nodes: RayNodes, torchrun_run: Any
) -> None:
    cache, loader = place.path / "cache", "memory" if ffcv_problem() else "ffcv"
    ray_nodes.add(2, own=cache)
    run = place.start(*RAY, f"data.loader={loader}", **ray_nodes.joining)
    assert run.end() == 0, run.output
    same_end(run.path, torchrun_run.path)
    there = ray_nodes.seen_by(2, cache)
    for folder in (cache, there):
        [converted] = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        assert read_json(converted / f"{loader}.json")["sizes"]["train"] > 0
    ray_nodes.lose(2)
    ray_nodes.add(3, own=place.path)
    shutil.rmtree(run.path)
    refused = place.start(*RAY, **ray_nodes.joining)
    assert refused.end() == 2, refused.output
    last = refused.output.splitlines()[-1]
    assert last.startswith(f"error: run_root: node {ray_nodes.host(3)} ") and str(refused.path) in last
    assert not (refused.path / ".shared").exists()


def test_elastic_run_shrinks_and_grows_fixed_run_ends(place: Any, ray_nodes: RayNodes) -> None:
    ray_nodes.add(2)
    settings = ("method=faulty:METHOD", "epochs=200", "launch.timeout=60", "eval.every=0", "launch.max_failures=1")
    run = place.start(*RAY, *settings, "launch.min_workers=1", **ray_nodes.joining)

    def started(attempt: int, workers: int) -> None:
        there = lambda: last_attempt(run.path) == attempt and history.read(run.path)  # noqa: E731
        wait_until(there, f"start {attempt}", process=run.process)
        assert last_workers(run.path) == workers

    started(0, workers=2)
    ray_nodes.lose(2)
    started(1, workers=1)
    ray_nodes.add(3)
    started(2, workers=2)
    swift = place.path / "swift"
    swift.touch()
    assert run.end() == 0, run.output
    assert [record["epoch"] for record in history.read(run.path)] == list(range(1, 201))
    lost, grown = (line for line in run.output.splitlines() if line.startswith("attempt "))
    assert "; 1 worker instead of 2: " in lost and "BN statistics" in lost
    assert grown.startswith("attempt 2: ") and "there is room for more" in grown
    swift.unlink()
    place.path = place.path / "fixed"
    place.path.mkdir()
    fixed = place.start(*RAY, *settings, "launch.timeout=30", **ray_nodes.joining)
    wait_until(lambda: history.read(fixed.path), "an epoch", process=fixed.process)
    ray_nodes.lose(3)
    assert fixed.end() == 1, fixed.output
    assert fixed.output.splitlines()[-1].startswith("failed: Ray Train could not start the workers: ")
