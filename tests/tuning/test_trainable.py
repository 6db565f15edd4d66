"""The Trainable of a trial, driven as Ray Tune drives it, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import distcond
from distcond.errors import ConfigError
from distcond.results import history
from distcond.results.pareto import area
from distcond.runs.checkpoint import load_shared
from distcond.runs.run_dir import RunDir
from support.sweeps import TINY

ray_trainable = pytest.importorskip("distcond.tuning.ray_backend.trainable")

OBJECTIVES = ("hypervolume", "sa@0", "ra@1", "train_flops")


@pytest.fixture
def make(tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Builds a trial with settings over a tiny run of two epochs."""
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path / "tune"))
    settings = dict(setting.split("=", 1) for setting in TINY)
    settings |= {"run_root": str(tmp_path / "runs"), "data.cache_dir": str(digits_cache), "data.loader": "memory"}
    trials = []

    def build(params: dict[str, Any], **changed: str) -> Any:
        wanted = ray_trainable.trainable("float_digits", settings | changed, OBJECTIVES, gpus=0)
        trials.append(wanted(config=dict(params)))
        return trials[-1]

    yield build
    for trial in trials:
        trial.stop()


def test_each_step_reports_an_epoch(make: Any) -> None:
    trial = make({"optim.lr": 0.1})
    first, last = trial.train(), trial.train()
    assert [(one["epoch"], one["training_iteration"], one["done"]) for one in (first, last)] == [
        (1, 1, False), (2, 2, True),
    ]  # fmt: skip
    run = RunDir(Path(last["run_dir"]))
    assert run.finished and run.config().optim.lr == 0.1 and (run.path / "results" / "table.md").exists()
    kept = max(history.read(run.path), key=lambda record: record["val_score"])["val"]
    assert last["hypervolume"] == pytest.approx(area([(at["sa"], at["ra"]) for at in kept]))
    assert (last["sa@0"], last["ra@1"]) == (kept[0]["sa"], kept[-1]["ra"])
    assert (last["sa"], last["ra"]) == (max(at["sa"] for at in kept), max(at["ra"] for at in kept))
    assert (last["epochs"], last["saved_epochs"]) == (2, 2)


def test_epochs_without_validation_are_not_reported(make: Any) -> None:
    trial = make({}, **{"eval.every": "2"})
    result = trial.train()
    assert (result["epoch"], result["done"]) == (2, True)


def test_same_settings_resume_without_training_again(make: Any) -> None:
    first = make({"optim.lr": 0.1})
    result = first.train()
    first.stop()
    before = history.read(result["run_dir"])
    again = make({"optim.lr": 0.1})
    assert again.train()["epoch"] == 1
    assert history.read(result["run_dir"]) == before
    assert again.train()["epoch"] == 2
    assert history.read(result["run_dir"])[:1] == before


def test_finished_run_is_reported_not_trained(make: Any) -> None:
    first = make({})
    results = [first.train(), first.train()]
    again = make({})
    assert [again.train()["hypervolume"] for _ in results] == [one["hypervolume"] for one in results]
    assert len(RunDir(Path(results[0]["run_dir"])).starts()) == 1


def test_checkpoint_loads_as_a_network(make: Any, tmp_path: Path) -> None:
    trial = make({"optim.lr": 0.1}, save_every="9")
    result = trial.train()
    trial.save(str(tmp_path / "saved"))
    model = distcond.load(tmp_path / "saved")
    expected = distcond.load(result["run_dir"])
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(distcond.AtLambda(model, 0.5)(images), distcond.AtLambda(expected, 0.5)(images))


def test_own_checkpoint_resumes_its_run(make: Any, tmp_path: Path) -> None:
    trial = make({"optim.lr": 0.1})
    run_dir = trial.train()["run_dir"]
    trial.save(str(tmp_path / "saved"))
    other = make({"optim.lr": 0.1})
    other.load_checkpoint(str(tmp_path / "saved"))
    assert [other.train()["epoch"] for _ in range(2)] == [1, 2]
    assert Path(run_dir).parent == Path(run_dir).parent and RunDir(Path(run_dir)).finished


def test_checkpoint_of_others_continues_with_own_settings(make: Any, tmp_path: Path) -> None:
    donor, child = make({"optim.lr": 0.1}), make({"optim.lr": 0.1})
    donor_dir = Path(donor.train()["run_dir"])
    donor.save(str(tmp_path / "saved"))
    assert child.reset({"optim.lr": 0.02})
    child.load_checkpoint(str(tmp_path / "saved"))
    result = child.train()
    child_dir = Path(result["run_dir"])
    assert result["epoch"] == 2 and child_dir != donor_dir
    assert json.loads((child_dir / "lineage.json").read_text())["run"] == donor_dir.name
    assert history.read(child_dir)[0]["lr"] < 0.1
    weights = load_shared(donor_dir / "checkpoints" / "epoch-0001")["model"]
    assert weights.keys() == load_shared(child_dir / "checkpoints" / "epoch-0002")["model"].keys()


def test_trial_in_a_cached_process_frees_its_run(make: Any) -> None:
    paused, other = make({"optim.lr": 0.1}), make({"optim.lr": 0.1})
    paused.train()
    assert [other.train()["epoch"], other.train()["epoch"]] == [1, 2]
    assert paused.train()["epoch"] == 2


def test_reused_process_trains_another_run(make: Any) -> None:
    trial = make({"optim.lr": 0.1})
    first = trial.train()["run_dir"]
    assert trial.reset({"optim.lr": 0.2})
    assert trial.train()["run_dir"] != first
    assert RunDir(Path(first)).starts()[-1]["ended"]["failed"] is False


def test_settings_that_cannot_be_trained_are_refused(make: Any) -> None:
    trial = make({"batch_size": 4000})
    with pytest.raises(ConfigError, match="batch_size=4000"):
        trial.step()


def test_unknown_objective_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="objective=speed"):
        ray_trainable.trainable("float_digits", objectives=("speed",))
