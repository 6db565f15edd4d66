"""ASHA on a real Ray, asked to stop on its way: no step is made twice."""

from __future__ import annotations

import signal
from pathlib import Path
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
    assert process.output.splitlines()[-1].startswith("stopped: "), process.output
    (run,) = (sweep / "runs").glob("[!.]*/")
    assert any(moment.step for moment in checkpoint_steps(run / "checkpoints")), process.output
    swift.touch()
    process = sweeps.command(place, "--resume", "sweep", **faults)
    assert process.wait() == 0, process.output
    found = sweeps.trials(sweep)
    assert len(found) == 2 and found[0].state == "finished", process.output
    for trial in found:
        epochs = list(range(1, trial.epochs + 1))
        assert [record["epoch"] for record in history.read(Path(trial.run))] == epochs
        assert [point[0] for point in trial.curve] == epochs
    assert steps.stat().st_size == STEPS * sum(trial.epochs for trial in found), "a step made twice"
