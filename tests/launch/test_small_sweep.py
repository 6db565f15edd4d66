"""A small sweep on Ray: ASHA lets one of two trials finish and stops the other."""

from __future__ import annotations

from typing import Any

import pytest

from distcond.results import history
from distcond.runs.run_dir import RunDir
from support import sweeps

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def test_asha_sweep_finishes_one_of_two(place: Any) -> None:
    process = sweeps.begin(place, 2, "scheduler=asha", "grace=1", "reduction=2", sweeps.ONE)
    assert process.wait() == 0, process.output
    found = sweeps.trials(place.path / "sweep")
    assert sorted((trial["state"], trial["epochs"]) for trial in found) == [("finished", 2), ("stopped", 1)], (
        process.output
    )
    for trial in found:
        run, epochs = RunDir(place.path / "sweep" / trial["run"]), list(range(1, trial["epochs"] + 1))
        assert run.finished == (trial["state"] == "finished")
        assert [record["epoch"] for record in history.read(run.path)] == epochs
        assert [point[0] for point in trial["curve"]] == epochs
