"""A run at a URI on several nodes that share no file system with each other or the driver."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from distcond.atomic_io import read_json
from distcond.runs.attempts import last_attempt
from distcond.training.progress import read_progress
from support.ray_nodes import RayNodes
from support.same_run import assert_same_end
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(900)]

#: 48 slow steps, so that the test can interrupt the run twice.
LONG = ("method=faulty:METHOD", "epochs=3", "train_examples=256", "batch_size=16", "eval.every=0", "save_steps=4")


@pytest.mark.parametrize("ray_nodes", [0], indirect=True)
def test_run_at_uri_survives_lost_node_and_stop(
    place: Any, placed: Any, mounts: None, ray_nodes: RayNodes, tmp_path: Path
) -> None:
    """The stop request reaches the workers only through the store."""
    cache, remote = place.path / "cache", place.path / "there" / "run"
    settings = ("launch=ray", "launch.workers=2", "launch.grace=200", *LONG)
    settings += (f"run_root=file://{remote.parent}", f"data.cache_dir={cache}")
    for number in (2, 3):
        ray_nodes.add(number, own=cache)
    run = place.start(*settings, **ray_nodes.joining)

    wait_until(lambda: list(remote.glob("checkpoints/*/complete.json")), "a checkpoint", process=run.process)
    # Lose the node of rank 0, which counts attempts: then another machine has to continue the count.
    files = {number: list(ray_nodes.seen_by(number, cache).glob("staging/*/*/run/progress.json")) for number in (2, 3)}
    first = max((number for number in files if files[number]), key=lambda number: files[number][0].stat().st_mtime)
    for number in (2, 3):  # each node has converted its own images
        [converted] = ray_nodes.seen_by(number, cache).glob("[!.]*/memory.json")
        assert read_json(converted)["sizes"]["train"] > 0
    ray_nodes.lose(first)
    lost = time.time()
    ray_nodes.add(4, own=cache)
    restarted = lambda: (last_attempt(remote) or 0) >= 1 and (read_progress(remote) or {"time": 0})["time"] > lost  # noqa: E731
    wait_until(restarted, "a restart", process=run.process)
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == 128 + signal.SIGTERM, run.output
    assert run.output.splitlines()[-1].startswith("stopped: checkpoint in epoch ")
    assert not (cache / "staging").exists()  # no worker was on the driver's machine
    (place.path / "swift").touch()
    resumed = place.start(*settings, **ray_nodes.joining)
    assert resumed.end() == 0, resumed.output
    with placed(tmp_path / "other") as other:
        other.path.mkdir()
        uninterrupted = other.start("launch=local", *LONG, torchrun=2)
        assert uninterrupted.end() == 0, uninterrupted.output
    copy = shutil.copytree(remote, tmp_path / "copy", ignore=shutil.ignore_patterns("complete.json"))
    assert_same_end(copy, uninterrupted.path)
