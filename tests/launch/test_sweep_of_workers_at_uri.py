"""A sweep at a URI whose trials have two Ray Train workers each: stopped on its way, it resumes there."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from distcond.launch.capacity import detect_capacity
from distcond.results import history
from distcond.runs.run_cache import fetch_run
from distcond.tuning.sweep_report.read import read_sweep
from support import sweeps
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(3600)]


@pytest.mark.skipif(detect_capacity().cores < 2, reason="needs two cores")
def test_stopped_sweep_of_workers_resumes_at_uri(place: Any) -> None:
    remote = place.path / "remote"
    workers = ("launch.workers=2", "launch.max_failures=0", "launch.grace=300", "epochs=3", "scheduler=asha")
    process = sweeps.begin(place, 2, f"dir=file://{remote}", *workers, "reduction=2")
    histories = (remote / "runs").glob
    wait_until(lambda: list(histories("*/history.jsonl")), "an epoch at the URI", sweeps.LIMIT, process=process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM, process.output
    process = sweeps.command(place, "--resume", f"file://{remote}")
    assert process.wait() == 0, process.output
    local = fetch_run(f"file://{remote}", checkpoints=False)
    found = read_sweep(local).trials
    assert len(found) == 2 and found[0].state == "finished", process.output
    for run in (remote / "runs").glob("[!.]*/"):
        epochs = [record["epoch"] for record in history.read(run)]
        assert epochs == list(range(1, len(epochs) + 1))
        assert {size for record in history.read(run) for size in record["world_sizes"]} == {2}
