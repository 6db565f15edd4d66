"""ASHA on a real Ray, asked to stop on its way: it spends what it says, and no step is made twice."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from distcond.results import history
from distcond.runs.checkpoint import checkpoint_steps
from support import sweeps
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(3600)]

ASHA = ("scheduler=asha", "grace=1", "reduction=2", sweeps.ONE)
STEPS = 16  # in an epoch: half a minute, as long as they are slow
LONG = ("method=faulty:METHOD", f"train_examples={16 * STEPS}", "batch_size=16", "launch.grace=300")


def test_stopped_asha_sweep_resumes_without_repeating_a_step(place: Any) -> None:
    sweep, steps, swift = place.path / "sweep", place.path / "steps", place.path / "swift"
    faults = {"FAULT_STEPS": str(steps), "FAULT_SLOW": str(swift), "FAULT_SLOW_SECONDS": "2"}
    process = sweeps.begin(place, 2, *ASHA, *LONG, **faults)
    wait_until(steps.exists, "the first step of a trial", sweeps.LIMIT, process=process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM, process.output
    assert process.output.splitlines()[-1].startswith("stopped: 0 of 2 trials have ended; ")
    (left,) = sweeps.trials(sweep)
    assert left["state"] == "waiting" and not left["error"], process.output
    assert any(moment.step for moment in checkpoint_steps(sweep / left["run"] / "checkpoints")), process.output
    swift.touch()
    process = sweeps.command(place, "--resume", "sweep", **faults)
    assert process.wait() == 0, process.output
    # Both to the rung at epoch 1, one of them on to the end: 1 + 2 epochs where whole runs would be 4.
    found = sweeps.trials(sweep)
    assert sorted((trial["state"], trial["epochs"]) for trial in found) == [("finished", 2), ("stopped", 1)], (
        process.output
    )
    for trial in found:
        epochs = list(range(1, trial["epochs"] + 1))
        assert [record["epoch"] for record in history.read(sweep / trial["run"])] == epochs
        assert [point[0] for point in trial["curve"]] == epochs
    assert steps.stat().st_size == STEPS * (1 + 2), "a step made twice: trials began anew"
