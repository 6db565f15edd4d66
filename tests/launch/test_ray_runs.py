"""Runs on Ray Train."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from distcond.results import history
from distcond.results.store import read_rows
from distcond.runs.attempts import last_attempt
from support.leftovers import listening, processes_with
from support.same_run import assert_same_end
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

#: 127.0.0.1, the same as IPv6, and ::1, as /proc writes them on a little-endian machine.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}

RAY = ("launch=ray", "launch.workers=2")


def test_run_with_a_dead_worker_equals_torchrun(place: Any, torchrun_run: Any) -> None:
    """On a local cluster: steps do not call Ray, a worker dies, and no result is lost and no process left."""
    faults = {"COUNT_RAY": str(place.path / "calls"), "FAULT": "exit", "FAULT_STEP": "5"}  # in the third epoch
    run = place.start(*RAY, "epochs=3", "method=faulty:METHOD", **faults)
    assert run.end() == 0, run.output
    counts = json.loads((place.path / "calls").read_text())
    assert counts["ray"] == 0 < counts["deliberate"], "no Ray call in or between steps"
    assert counts["all"] > 1000
    _check_no_leftovers(place)
    assert not (run.path / ".ray").exists()
    lines = [line for line in run.output.splitlines() if "ray" in line.lower()]
    assert [line for line in lines if not line.startswith("(raylet) A worker died")] == ["starting Ray ..."]
    assert "attempt 1: workers restarted from the last checkpoint (a worker died without an exception)" in run.output
    assert [record["epoch"] for record in history.read(run.path)] == [1, 2, 3]
    for output in (run.output, torchrun_run.output):
        assert [output.count(f"epoch {number}/3") for number in (1, 2, 3)] == [1, 1, 1]
    attempts = {(row.split, row.epoch): row.attempt for row in read_rows(run.path) if row.split == "val"}
    assert attempts == {("val", 1): 0, ("val", 2): 0, ("val", 3): 1}
    assert {row.attempt for row in read_rows(run.path) if row.split == "test"} == {1}
    assert_same_end(run.path, torchrun_run.path)


@pytest.mark.cluster
def test_worker_error_is_reported_and_not_repeated(place: Any) -> None:
    run = place.start(*RAY, "method=faulty:METHOD", FAULT="raise", FAULT_STEP="1")
    assert run.end() == 1, run.output
    file = run.path / "failures" / "attempt-00-worker-0001.txt"
    last = run.output.splitlines()[-1]
    assert last.startswith("failed: ValueError: the fault of worker 1 (worker 1; ") and str(file) in last
    assert "in fault" in file.read_text()
    assert last_attempt(run.path) == 0
    _check_no_leftovers(place)


@pytest.mark.cluster
def test_sigterm_ends_run_that_cannot_save(place: Any) -> None:
    run = place.start(*RAY, "method=faulty:METHOD", "launch.grace=1", FAULT="wait", FAULT_STEP="1")
    wait_until((place.path / "fault").exists, "the first step of worker 1", process=run.process)
    assert len(processes_with(place.mark)) > 5
    assert listening(list(processes_with(place.mark))) <= LOOPBACK, "workers, their store and gloo"
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == 128 + signal.SIGTERM, run.output
    _check_no_leftovers(place)


def _check_no_leftovers(place: Any) -> None:
    assert not processes_with(place.mark)
    assert not list(place.short.glob("distcond-*"))
