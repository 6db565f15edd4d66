"""Schedulers as Ray Tune runs them, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, HyperBandScheduler, MedianStoppingRule
from ray.tune.schedulers import PopulationBasedTraining as RaysPopulation

from distcond.errors import ConfigError
from distcond.tuning.axis import Axis
from distcond.tuning.checks import RAY_SCHEDULERS, RAY_SEARCHERS
from distcond.tuning.options import read_options
from distcond.tuning.ray_backend.schedulers import build_scheduler, pauses_trials
from distcond.tuning.ray_backend.searchers import build_search
from distcond.tuning.space import Space
from support.in_process_tune import InProcessTune

SPACE = Space("s", "?", "float_digits", 9, axes=(Axis("optim.lr", "loguniform", 0.01, 0.3),))


class Patient(FIFOScheduler):
    """A scheduler of a user's."""

    def __init__(self, patience: int = 1) -> None:
        super().__init__()
        self.patience = patience


def score(config: dict[str, Any], epoch: int) -> float:
    return float(epoch / config["optim.lr"])  # of the first trials the rates are small


def tuned(folder: Path, options: dict[str, Any], space: Space = SPACE, **more: Any) -> InProcessTune:
    parsed = read_options({"scheduler": "asha", **options})
    scheduler = build_scheduler(parsed, space, space.config({"epochs": 9, "eval.every": 1}))
    return InProcessTune(folder, build_search(space, parsed, []), scheduler, more.pop("score", score), **more)


def rungs(tune: InProcessTune) -> list[dict[str, float]]:
    return [recorded for bracket in tune.controller._scheduler_alg._brackets for _, recorded in bracket._rungs]


def ended(tune: InProcessTune) -> dict[str, int]:
    return {trial.experiment_tag: trial.last_result["epoch"] for trial in tune.trials}


def test_asha_stops_the_worse_trials(tmp_path: Path) -> None:
    tune = tuned(tmp_path, {})
    tune.run()
    epochs = list(ended(tune).values())
    assert set(epochs) <= {1, 3, 9} and epochs.count(1) >= 3 and 9 in epochs


@pytest.mark.parametrize("brackets", [1, 2])
def test_rungs_survive_the_process(brackets: int, tmp_path: Path) -> None:
    tune = tuned(tmp_path, {"brackets": brackets})
    tune.run(steps=14)
    before = rungs(tune)
    resumed = tuned(tmp_path, {"brackets": brackets}, resume=True)
    assert rungs(resumed) == before and any(before)
    resumed.run()
    assert set(ended(resumed).values()) <= {1, 3, 9}


def test_only_results_before_the_restart_count(tmp_path: Path) -> None:
    tune = tuned(tmp_path, {"trials": 2}, saves_every=2, score=lambda config, epoch: 1.0)
    tune.run(steps=6)
    before = {trial.trial_id: trial.last_result["epoch"] for trial in tune.trials}
    assert list(before.values()) == [3, 3], "whose checkpoints are those after epoch 2"
    lowest = rungs(tuned(tmp_path, {"trials": 2}, saves_every=2, resume=True))
    assert [set(recorded) for recorded in lowest] == [set(), set(), set(before)]


def test_a_lost_result_file_loses_no_finished_trial(tmp_path: Path) -> None:
    tune = tuned(tmp_path, {"trials": 3})
    tune.run()
    for file in (tmp_path / "experiment").glob("*/result.json"):
        file.write_text('{"epoch": 1, "hyperv')
    found = rungs(tuned(tmp_path, {"trials": 3}, resume=True))
    assert sum(len(recorded) for recorded in found) == 3


def test_results_are_read_in_their_file_system(tmp_path: Path) -> None:
    place = {"filesystem": SubTreeFileSystem(str(tmp_path), LocalFileSystem())}
    tune = tuned(Path("bucket"), {}, **place)
    tune.run(steps=14)
    assert rungs(tuned(Path("bucket"), {}, resume=True, **place)) == rungs(tune) and any(rungs(tune))


def test_retries_count_once(tmp_path: Path) -> None:
    tune = tuned(tmp_path, {"trials": 4})
    tune.run(steps=6)
    before, scheduler = rungs(tune), tune.controller._scheduler_alg
    for trial in tune.trials:
        scheduler.on_trial_error(tune.controller._wrapped(), trial)
        scheduler.on_trial_add(tune.controller._wrapped(), trial)
    assert rungs(tune) == before


@pytest.mark.parametrize(
    ("options", "wanted", "attributes"),
    [
        ({"scheduler": "none"}, FIFOScheduler, {}),
        ({"scheduler": "async_hyperband"}, AsyncHyperBandScheduler, {"_time_attr": "epoch", "_max_t": 9}),
        ({"scheduler": "hyperband"}, HyperBandScheduler, {"_time_attr": "epoch", "_eta": 3}),
        ({"scheduler": "median", "grace": 2}, MedianStoppingRule, {"_time_attr": "epoch", "_grace_period": 2}),
        ({"scheduler": "median", "scheduler_options": "min_samples_required=7"}, MedianStoppingRule,
         {"_min_samples_required": 7}),
        ({"scheduler": f"{__name__}.Patient", "scheduler_options": "patience=4"}, Patient, {"patience": 4}),
        ({"scheduler": f"{__name__}:Patient"}, Patient, {"patience": 1}),
        ({"scheduler": "ray.tune.schedulers.PopulationBasedTraining"}, RaysPopulation, {"_perturbation_interval": 1}),
    ],
)  # fmt: skip
def test_schedulers_are_built_by_name(options: dict[str, Any], wanted: type, attributes: dict[str, Any]) -> None:
    found = build_scheduler(read_options(options), SPACE, SPACE.config({"epochs": 9, "eval.every": 1}))
    assert isinstance(found, wanted)
    assert {name: getattr(found, name) for name in attributes} == attributes


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "async_hyperband"])
def test_runs_longer_than_epochs_are_finished(scheduler: str, tmp_path: Path) -> None:
    tune = tuned(tmp_path, {"scheduler": scheduler, "trials": 3}, epochs=11)
    tune.run()
    assert max(ended(tune).values()) == 11


@pytest.mark.parametrize("scheduler", ["median", "hyperband", "async_hyperband"])
def test_rays_schedulers_run_to_the_end(scheduler: str, tmp_path: Path) -> None:
    tune = tuned(tmp_path, {"scheduler": scheduler, "trials": 6})
    tune.run()
    assert all(trial.is_finished() for trial in tune.trials) and len(tune.trials) == 6
    assert 1 <= min(ended(tune).values()) < max(ended(tune).values()) == 9


def test_schedulers_that_pause_are_told_apart() -> None:
    names = {"none": False, "asha": False, "median": False, "pbt": True, "hyperband": True}
    built = {
        name: build_scheduler(read_options({"scheduler": name}), SPACE, SPACE.config({"eval.every": 1}))
        for name in names
    }
    assert {name: pauses_trials(scheduler) for name, scheduler in built.items()} == names


def test_rays_names_are_rays() -> None:
    from ray.tune.schedulers import SCHEDULER_IMPORT
    from ray.tune.search import SEARCH_ALG_IMPORT

    assert set(RAY_SCHEDULERS) - {"median"} <= set(SCHEDULER_IMPORT)
    assert set(RAY_SEARCHERS) == set(SEARCH_ALG_IMPORT) - {"random", "variant_generator"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scheduler": "asha", "grace": 9}, "grace=9"),
        ({"scheduler": "asha", "grace": 1}, "eval.every=2"),
        ({"scheduler": "pbt", "interval": 3}, "eval.every=2"),
        ({"scheduler": "asha", "grace": 2, "scheduler_options": "patience=1"}, "patience"),
        ({"scheduler": "nowhere.Scheduler"}, "nowhere"),
        ({"scheduler": "pathlib.Path"}, "TrialScheduler"),
        ({"scheduler": "hb_bohb", "grace": 2, "scheduler_options": "max_t=0"}, "scheduler=hb_bohb"),
    ],
)
def test_schedules_that_cannot_be_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_scheduler(read_options(options), SPACE, SPACE.config({"epochs": 9, "eval.every": 2}))
    assert text in str(error.value) and "\n" not in str(error.value)


def test_bounds_of_a_choice_are_refused() -> None:
    space = Space("s", "?", "float_digits", 9, axes=(Axis("optim.schedule", "choice", values=("constant", "cosine")),))
    with pytest.raises(ConfigError, match=r"optim\.schedule is a choice"):
        build_scheduler(read_options({"scheduler": "pb2"}), space, space.config({"epochs": 9, "eval.every": 1}))
