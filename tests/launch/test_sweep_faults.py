"""A sweep on a Ray of its own some of whose trials go wrong."""

from __future__ import annotations

from typing import Any

import pytest

from distcond.launch.capacity import detect_capacity
from distcond.results import trials
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
    # One at a time on any machine: those after the one that hangs find room only if it gives its own back.
    whole = f"launch.cpus_per_worker={detect_capacity().cores}"
    process = sweeps.begin(place, 4, *words, *steps, whole, space=FAULTS)
    assert process.wait() == 0, process.output
    found = trials(place.path / "sweep").set_index("method")
    assert list(found["state"]) == [*["failed"] * 3, "finished"], process.output
    hangs, raises, killed = (found["error"][f"broken:{name}"] for name in ("HANGS", "RAISES", "KILLED"))
    assert HANG in hangs, hangs
    assert raises.startswith("ValueError: the fault of the method (worker 0; "), raises
    assert killed.startswith("worker 0 died without an exception"), killed
    told = [line for line in process.output.splitlines() if " failed: " in line]
    assert len(told) == 3, process.output
    assert "Traceback" not in process.output
