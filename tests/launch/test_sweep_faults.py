"""A sweep on a Ray of its own some of whose trials go wrong."""

from __future__ import annotations

from typing import Any

import pytest

from distcond.launch.capacity import this_machine
from distcond.results import trials
from support import sweeps

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(2000)]

#: Longer than anything that a trial does without a sign on a busy machine.
HANG = "hang=60"

FAULTS = """
question = "Which method goes wrong?"
recipe = "float_digits"
trials = {trials}

[space.method]
kind = "choice"
values = [
  "float", "broken:RAISES", "broken:KILLED", "broken:STARVES", "broken:HANGS", "broken:HANGS_TOO", "trades"
]

[space."eval.lam_grid"]
kind = "choice"
values = [[0.0, 1.0]]
"""


def test_failed_trials_are_one_line_others_finish(place: Any) -> None:
    words = ("search=grid", "scheduler=none", "launch.max_failures=0", HANG, "retries=0", "sampler=two_point")
    # At most two at a time on any machine: the last finds room only if a trial that hangs gives its own back.
    half = f"launch.cpus_per_worker={-(-this_machine().cores // 2)}"
    process = sweeps.begin(place, 7, *words, half, space=FAULTS)
    assert process.wait() == 0, process.output
    found = trials(place.path / "sweep").set_index("method")
    assert list(found["state"]) == ["finished", *["failed"] * 5, "finished"], process.output
    names = ("HANGS", "HANGS_TOO", "RAISES", "KILLED", "STARVES")
    hangs, too, raises, killed, starves = (found["error"][f"broken:{name}"] for name in names)
    assert all(HANG in line for line in (hangs, too)), (hangs, too)
    assert raises.startswith("ValueError: the fault of the method (worker 0; "), raises
    assert killed.startswith("worker 0 died without an exception"), killed
    assert starves.startswith("RuntimeError: ") and "can't allocate memory" in starves, starves
    assert "(worker 0; " in starves
    told = [line for line in process.output.splitlines() if " failed: " in line]
    assert len(told) == 5, process.output
    assert "Traceback" not in process.output
