"""Searches as Ray Tune runs them, without a cluster."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import BasicVariantGenerator, Searcher

from distcond.errors import ConfigError
from distcond.tuning.axis import Axis
from distcond.tuning.checks import check_names
from distcond.tuning.objective import Objective
from distcond.tuning.options import read_options
from distcond.tuning.points import draw_points
from distcond.tuning.ray_backend.searchers import PointSearch, build_search
from distcond.tuning.space import Space
from support.in_process_tune import InProcessTune
from support.installed import needs

needs("optuna", "Optuna comes with the extra tune")

SA, RA = Objective("sa@0", "sa", 0.0, True), Objective("ra@1", "ra", 1.0, True)
LR = Axis("optim.lr", "uniform", 0.01, 1.0)
DECAY = Axis("optim.no_decay", "choice", values=(["alpha"], []))
METHOD = Axis("method", "choice", values=("float", "oat"))
ALPHA = Axis("method.alpha", "uniform", 0.1, 0.9, when=(("method", ("float",)),))
PLAIN = Space("plain", "?", "float_digits", 9, axes=(LR, DECAY))
RATES = Space("rates", "?", "float_digits", 9, axes=(LR, Axis("optim.momentum", "uniform", 0.0, 0.9)))
CONDITIONAL = Space("conditional", "?", "float_digits", 9, axes=(METHOD, ALPHA, LR))


class OneByOne(Searcher):
    """A searcher of a user's, over a space of Ray's."""

    def __init__(self, start: float = 0.0, seed: int = -1) -> None:
        super().__init__()
        self.start, self.seed, self.space = start, seed, dict[str, Any]()

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        self.space = config
        return True

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.start += 0.1
        return {"optim.lr": self.start, "optim.no_decay": self.space["optim.no_decay"].sample()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None: ...


def score(config: dict[str, Any], epoch: int) -> float:
    return float(1 - (config["optim.lr"] - 0.7) ** 2 - 0.2 * bool(config.get("optim.no_decay")))


def named_by_optuna(trial: Any) -> dict[str, Any]:
    return {"optim.lr": trial.suggest_float("rate", 0.1, 0.2)}


def tuned(folder: Path, space: Space, options: dict[str, Any], **more: Any) -> InProcessTune:
    search = build_search(space, read_options(options), [SA])
    return InProcessTune(folder, search, FIFOScheduler(), score, epochs=1, metric="sa@0", **more)


@pytest.mark.parametrize("space", [RATES, PLAIN, CONDITIONAL])
@pytest.mark.parametrize("search", ["random", "grid"])
def test_ray_runs_exactly_the_listed_points(space: Space, search: str, tmp_path: Path) -> None:
    options = {"search": search, "trials": 12}
    tune = tuned(tmp_path, space, options, at_a_time=3)
    tune.run()
    assert [trial.config for trial in tune.trials] == draw_points(space, read_options(options))
    algorithm = build_search(space, read_options(options), [SA]).search_alg
    assert isinstance(algorithm, BasicVariantGenerator if space is RATES else PointSearch)


@pytest.mark.parametrize("space", [RATES, CONDITIONAL])
@pytest.mark.parametrize("search", ["random", "tpe"])
def test_killed_search_continues_with_its_next_point(space: Space, search: str, tmp_path: Path) -> None:
    options = {"search": search, "trials": 9}
    whole = tuned(tmp_path / "whole", space, options, at_a_time=1)
    whole.run()
    tuned(tmp_path / "killed", space, options, at_a_time=1).run(steps=4)
    resumed = tuned(tmp_path / "killed", space, options, at_a_time=1, resume=True)
    resumed.run()
    by_tag = {trial.experiment_tag.split("_")[0]: trial.config for trial in resumed.trials}
    assert by_tag == {trial.experiment_tag.split("_")[0]: trial.config for trial in whole.trials}
    assert resumed.steps == 5, "finished trials are not run again"


def test_tpe_finds_what_is_good(tmp_path: Path) -> None:
    tune = tuned(tmp_path, PLAIN, {"search": "tpe", "trials": 40})
    tune.run()
    late = [trial.config for trial in tune.trials][-10:]
    assert sum(abs(config["optim.lr"] - 0.7) < 0.2 for config in late) >= 7
    assert sum(config["optim.no_decay"] == [] for config in late) >= 7


def test_several_objectives_and_failures_are_told() -> None:
    search = build_search(PLAIN, read_options({"search": "nsga2", "objective": "sa@0,ra@1"}), [SA, RA]).search_alg
    for number in range(20):
        point = search.suggest(str(number))
        result = {"sa@0": point["optim.lr"], "ra@1": 1 - point["optim.lr"], "training_iteration": 1}
        search.on_trial_result(str(number), result)
        search.on_trial_complete(str(number), None if number == 3 else result, error=number == 3)
    assert len(search._ot_study.best_trials) > 1
    states = [trial.state.name for trial in search._ot_study.trials]
    assert states.count("COMPLETE") == 19 and set(states) == {"COMPLETE", "FAIL"}


def test_optuna_ends_when_every_run_was_proposed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = Space("few", "?", "float_digits", 9, axes=(Axis("optim.lr", "choice", values=(0.1, 0.2, "0.2")), DECAY))
    with caplog.at_level(logging.INFO):
        tune = tuned(tmp_path, space, {"search": "tpe"})
        tune.controller._scheduler_alg.choose_trial_to_run(tune.controller._wrapped())
        tune.score = lambda config, epoch: float(config["optim.lr"])
        tune.run()
    assert len(tune.trials) == 4 and "few: search space exhausted after 4 of 9 trials" in caplog.text


def test_optuna_draws_again_what_is_no_config(caplog: pytest.LogCaptureFixture) -> None:
    axes = (Axis("batch_size", "choice", values=(64, 0)), LR)
    search = build_search(PLAIN, read_options({"search": "tpe"}), [SA]).search_alg
    search.space = search._space.space = Space("some", "?", "float_digits", 9, axes=axes)
    points = [search.suggest(str(number)) for number in range(6)]
    assert {point["batch_size"] for point in points} == {64} and "batch_size=0" in caplog.text


def test_names_given_to_optuna_are_no_settings() -> None:
    space = Space("f", "", "float_digits", 9, function=f"{__name__}:named_by_optuna")
    assert set(build_search(space, read_options({"search": "tpe"}), [SA]).search_alg.suggest("a")) == {"optim.lr"}


def test_results_of_unknown_trials_are_ignored() -> None:
    search = build_search(PLAIN, read_options({"search": "tpe"}), [SA]).search_alg
    search.on_trial_result("lost", {"sa@0": 1.0, "training_iteration": 1})
    search.on_trial_complete("lost", {"sa@0": 1.0})
    assert not search._ot_study.trials


def test_a_searcher_of_ones_own_searches_the_space(tmp_path: Path) -> None:
    options = {"search": f"{__name__}.OneByOne", "search_options": "start=0.3", "trials": 3}
    tune = tuned(tmp_path, PLAIN, options)
    tune.run()
    assert [trial.config["optim.lr"] for trial in tune.trials] == pytest.approx([0.4, 0.5, 0.6])
    assert all(trial.config["optim.no_decay"] in ([], ["alpha"]) for trial in tune.trials)
    assert tune.controller._search_alg.searcher.seed >= 0, "search_seed is passed on"


@pytest.mark.parametrize(
    ("space", "options", "text"),
    [
        (PLAIN, {"search": "hyperopt"}, "search=hyperopt"),
        (PLAIN, {"search": "nowhere.Search"}, "nowhere"),
        (PLAIN, {"search": "pathlib.Path"}, "Searcher"),
        (PLAIN, {"search": f"{__name__}.OneByOne", "search_options": "begin=1"}, "begin"),
        (CONDITIONAL, {"search": f"{__name__}.OneByOne"}, "valid: random, grid, tpe, nsga2"),
        (PLAIN, {"search": "tpe", "search_options": "begin=1"}, "begin"),
        (Space("f", "", "float_digits", 9, function="math:sqrt"), {"search": "tpe"}, "(trial)"),
        (
            Space("s", "?", "float_digits", 9, axes=(Axis("batch_size", "choice", values=(0,)),)),
            {"search": "tpe"},
            "batch_size",
        ),
    ],
)
def test_searches_that_cannot_be_are_refused(space: Space, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_search(space, read_options(options), [SA])
    assert text in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"search": "bayes"}, {"scheduler": "ashaa"}])
def test_unknown_names_are_listed(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"valid: .*module\.Class"):
        check_names(read_options(options))
