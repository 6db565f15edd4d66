"""A user's Ray Tune script whose trials are runs of distcond."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from distcond.results import history
from distcond.runs.run_dir import RunDir
from support import processes, sweeps
from support.sweeps import volume

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(2000)]


def test_own_script_stops_one_trial_others_finish(place: Any) -> None:
    command = [sys.executable, str(Path(__file__).with_name("own_script.py")), str(place.path / "cache")]
    environment = {**place.environment, "RAY_AUTH_MODE": "disabled"}
    environment["RAY_worker_niceness"] = "0"  # by default other programs take precedence
    done = processes.run(command, cwd=place.path, env=environment, limit=sweeps.LIMIT)
    assert done.status == 0, done.output
    (line,) = (line for line in done.output.splitlines() if "[{" in line)
    found = json.loads(line[line.index("[{") :])  # after output of Ray on the same line
    assert [one["epoch"] for one in found] == [2, 1, 2]
    runs = {RunDir(run).config().attack.num_steps: RunDir(run) for run in (place.path / "runs").glob("[!.]*/")}
    assert {steps: run.finished for steps, run in runs.items()} == {2: True, 9: False, 1: True}
    for one, steps in ((found[0], 2), (found[2], 1)):
        assert one["hypervolume"] == pytest.approx(volume(runs[steps].path))
    assert [record["epoch"] for record in history.read(runs[9].path)] == [1]
    states = [trial.state for trial in sweeps.trials(place.path / "tune" / "own")]
    assert sorted(states) == ["finished", "finished", "stopped"]
