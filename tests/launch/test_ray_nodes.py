"""Runs over several nodes, each with an address of its own and, for files, a directory of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from distcond.data.ffcv_import import ffcv_problem
from distcond.engine.run_dir import read_json
from distcond.launch.attempt import last_attempt, last_workers
from distcond.results import history

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(1800)]

RAY = ("launch=ray", "launch.workers=2")


def test_two_nodes_train_what_two_processes_train_and_see_to_their_own_images(
    place: Any, ray_nodes: Any, mounts: None, torchrun_run: Any, same_end: Callable[..., None]
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
    path = refused.path
    line = (
        f"error: run_root: node {ray_nodes.host(3)} does not see the driver's {path}; set run_root to a directory that"
    )
    assert refused.output.splitlines()[-1].startswith(line)
    assert not (path / ".shared").exists()


def test_an_elastic_run_goes_on_with_fewer_workers_and_grows_again_and_a_fixed_one_ends(
    place: Any, ray_nodes: Any, wait_for: Callable[..., None]
) -> None:
    ray_nodes.add(2)
    settings = ("method=faulty:METHOD", "epochs=200", "launch.timeout=60", "eval.every=0", "launch.max_failures=1")
    run = place.start(*RAY, *settings, "launch.min_workers=1", **ray_nodes.joining)

    def started(attempt: int, workers: int) -> None:
        over = lambda: run.process.poll() is not None  # noqa: E731
        wait_for(lambda: over() or (last_attempt(run.path) == attempt and history.read(run.path)), f"start {attempt}")
        assert not over(), (run.end(), run.output)
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
    kept = "the same global batches in the same order; BN statistics per worker now see other shares of them"
    lost, grown = (line for line in run.output.splitlines() if line.startswith("attempt "))
    assert lost.endswith(f"; 1 worker instead of 2: {kept}")
    assert grown.startswith("attempt 2: workers restarted from the last checkpoint (there is room for more)")
    swift.unlink()
    place.path = place.path / "fixed"
    place.path.mkdir()
    fixed = place.start(*RAY, *settings, "launch.timeout=30", **ray_nodes.joining)
    wait_for(lambda: history.read(fixed.path), "an epoch")
    ray_nodes.lose(3)
    assert fixed.end() == 1, fixed.output
    assert fixed.output.splitlines()[-1].startswith("failed: Ray Train could not start the workers: ")
