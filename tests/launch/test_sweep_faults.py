"""A sweep on a Ray of its own some of whose trials go wrong."""

from __future__ import annotations

from typing import Any

import pytest

from distcond.launch.capacity import detect_capacity
from support import sweeps

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(2000)]

#: Longer than anything that a trial does without a sign on a busy machine.
HANG = "hang=30"

FAULTS = """
question = "Which method goes wrong?"
recipe = "float_digits"
trials = {trials}

[space.method]
kind = "choice"
values = ["broken:HANGS", "broken:RAISES", "broken:KILLED", "float"]

[space."eval.lam_grid"]
kind = "choice"
values = [[0.0, 1.0]]
"""


def test_failed_trials_are_one_line_others_finish(place: Any) -> None:
    words = ("search=grid", "scheduler=none", "launch.max_failures=0", HANG, "retries=0")
    # Four in each epoch. The fault comes in the second: one that has not yet said that it trains is not looked at.
    steps = ("epochs=2", "train_examples=128", "batch_size=32")
    # One at a time on any machine: those after the one that hangs get cores only if its process ends.
    whole = f"launch.cpus_per_worker={detect_capacity().cores}"
    process = sweeps.begin(place, 4, *words, *steps, whole, space=FAULTS)
    assert process.wait() == 0, process.output
    found = {trial.params["method"]: trial for trial in sweeps.trials(place.path / "sweep")}
    states = {name: trial.state for name, trial in found.items()}
    faults = ("broken:HANGS", "broken:RAISES", "broken:KILLED")
    assert states == {**dict.fromkeys(faults, "failed"), "float": "finished"}, process.output
    hangs, raises, killed = (found[name].error for name in faults)
    assert HANG in hangs, hangs
    assert raises.startswith("ValueError: the fault of the method (traceback in "), raises
    assert "process of the trial died" in killed, killed
    lines = [line for line in process.output.splitlines() if " failed: " in line]
    assert len(lines) == 3 and any(hangs in line for line in lines), process.output
    assert "Traceback" not in process.output
