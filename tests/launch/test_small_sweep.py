"""A small sweep on Ray: ASHA stops one of two trials, and Ray Tune's own classes read the result."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

import distcond
from distcond.results import history
from distcond.runs.run_dir import RunDir
from support import sweeps

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def test_asha_sweep_is_an_experiment_of_tune(place: Any) -> None:
    process = sweeps.begin(place, 2, "scheduler=asha", "grace=1", "reduction=2", sweeps.ONE)
    assert process.wait() == 0, process.output
    sweep = place.path / "sweep"
    found = sweeps.trials(sweep)
    assert found[0].state == "finished" and {trial.state for trial in found} <= {"finished", "stopped"}, process.output
    for trial in found:
        run, epochs = RunDir(Path(trial.run)), list(range(1, trial.epochs + 1))
        assert run.path.parent == sweep / "runs"
        assert run.finished == (trial.state == "finished") == (trial.epochs == 2)
        assert [record["epoch"] for record in history.read(run.path)] == epochs
        assert [point[0] for point in trial.curve] == epochs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's reader
        from ray.tune import ExperimentAnalysis

        analysis = ExperimentAnalysis(str(sweep / "experiment"), default_metric="hypervolume", default_mode="max")
        assert {row["config/optim.lr"] for _, row in analysis.dataframe().iterrows()} == {
            trial.params["optim.lr"] for trial in found
        }
        assert analysis.best_result["hypervolume"] == max(trial.values[0] for trial in found)
        assert analysis.best_checkpoint is not None
        assert distcond.load(analysis.best_checkpoint.path).classes
