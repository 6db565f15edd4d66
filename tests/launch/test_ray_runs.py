"""Whole runs on Ray Train."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from distcond.launch.attempt import last_attempt
from distcond.results import history
from distcond.results.store import read_rows
from support.leftovers import processes_with
from support.ray_cluster import Ray
from support.same_end import same_end
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

RAY = ("launch=ray", "launch.workers=2")


def test_two_ray_workers_equal_two_torchrun_processes(place: Any, torchrun_run: Any) -> None:
    run = place.start(*RAY, "method=faulty:METHOD", COUNT_RAY=str(place.path / "calls"))
    assert run.end() == 0, run.output
    counts = json.loads((place.path / "calls").read_text())
    assert counts["ray"] == 0 < counts["deliberate"], "no Ray call in a step, nor between"
    assert counts["all"] > 1000
    _has_left_nothing(place)
    assert not (run.path / ".ray").exists()
    assert [line for line in run.output.splitlines() if "ray" in line.lower()] == ["starting Ray ..."]
    for output in (run.output, torchrun_run.output):
        assert output.count("epoch 1/2") == output.count("epoch 2/2") == 1
    same_end(run.path, torchrun_run.path)


def test_dead_worker_is_restarted_and_nothing_is_lost(place: Any, torchrun_run: Any, shared_ray: Ray) -> None:
    run = place.start(*RAY, "method=faulty:METHOD", joins=shared_ray, FAULT="exit", FAULT_STEP="3")
    assert run.end() == 0, run.output
    assert "joining Ray ..." in run.output
    assert "attempt 1: workers restarted from the last checkpoint (one died without an exception)" in run.output
    assert [record["epoch"] for record in history.read(run.path)] == [1, 2]
    assert run.output.count("epoch 1/2") == run.output.count("epoch 2/2") == 1
    assert {row.attempt for row in read_rows(run.path) if row.split == "test"} == {1}
    assert {row.attempt for row in read_rows(run.path) if row.epoch == 1 and row.split == "val"} == {0}
    same_end(run.path, torchrun_run.path)


@pytest.mark.cluster
def test_worker_error_is_reported_and_not_repeated(place: Any) -> None:
    run = place.start(*RAY, "method=faulty:METHOD", FAULT="raise", FAULT_STEP="1")
    assert run.end() == 1, run.output
    file = run.path / "failures" / "attempt-00-worker-0001.txt"
    last = run.output.splitlines()[-1]
    assert last.startswith("failed: ValueError: the fault of worker 1 (worker 1; ") and str(file) in last
    assert "in fault" in file.read_text()
    assert last_attempt(run.path) == 0
    _has_left_nothing(place)


@pytest.mark.cluster
def test_sigterm_ends_run_that_cannot_save(place: Any) -> None:
    run = place.start(*RAY, "method=faulty:METHOD", "launch.grace=1", FAULT="wait", FAULT_STEP="1")
    wait_until((place.path / "fault").exists, "the first step of worker 1", process=run.process)
    assert len(processes_with(place.mark)) > 5
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == 128 + signal.SIGTERM, run.output
    _has_left_nothing(place)


def _has_left_nothing(place: Any) -> None:
    assert not processes_with(place.mark)
    assert not list(place.short.glob("distcond-*"))
