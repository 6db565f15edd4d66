"""ASHA on a real Ray, asked to stop on its way: it spends what it says, and no step is made twice."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from distcond.engine.checkpoint import moments
from distcond.results import history
from support import sweeps
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(3600)]

ASHA = ("scheduler=asha", "grace=1", "reduction=2", "epochs=4")
STEPS = 32  # in an epoch: a minute, as long as they are slow
LONG = ("method=faulty:METHOD", f"train_examples={16 * STEPS}", "batch_size=16", "launch.grace=300")


def test_stopped_asha_sweep_resumes_without_repeating_a_step(place: Any) -> None:
    sweep, steps, swift = place.path / "sweep", place.path / "steps", place.path / "swift"
    faults = {"FAULT_STEPS": str(steps), "FAULT_SLOW": str(swift), "FAULT_SLOW_SECONDS": "2"}
    process = sweeps.begin(place, 4, *ASHA, *LONG, **faults)
    wait_until(steps.exists, "the first step of a trial", sweeps.LIMIT, process=process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM, process.output
    assert process.output.splitlines()[-1].startswith("stopped: 0 of 4 trials have ended; ")
    left = sweeps.trials(sweep)
    assert {trial["state"] for trial in left} == {"waiting"} and not any(trial["error"] for trial in left), (
        process.output
    )
    assert any(moment.step for trial in left for moment in moments(sweep / trial["run"] / "checkpoints")), (
        process.output
    )
    swift.touch()
    process = sweeps.command(place, "--resume", "sweep", **faults)
    assert process.wait() == 0, process.output
    # All to rung 1, two of four on to 2, one of those two to the end: 4 * 1 + 2 * 1 + 1 * 2 epochs where whole runs
    # would be 16.
    found = sweeps.trials(sweep)
    assert sorted(trial["epochs"] for trial in found) == [1, 1, 2, 4], process.output
    assert [trial["state"] for trial in found if trial["epochs"] == 4] == ["finished"]
    for trial in found:
        epochs = list(range(1, trial["epochs"] + 1))
        assert [record["epoch"] for record in history.read(sweep / trial["run"])] == epochs
        assert [point[0] for point in trial["curve"]] == epochs
    assert steps.stat().st_size == STEPS * (4 * 1 + 2 * 1 + 1 * 2), "a step made twice: trials began anew"
