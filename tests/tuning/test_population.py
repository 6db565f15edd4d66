"""Population-based training as Ray Tune runs it, without a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distcond.errors import ConfigError
from distcond.seeding import generator
from distcond.tuning.axis import Axis
from distcond.tuning.checks import check_live
from distcond.tuning.options import read_options
from distcond.tuning.ray_backend.schedulers import build_scheduler
from distcond.tuning.ray_backend.searchers import build_search
from distcond.tuning.space import Space
from support.in_process_tune import InProcessTune

AXES = (Axis("optim.lr", "loguniform", 0.01, 0.3), Axis("optim.weight_decay", "loguniform", 1e-5, 1e-2))
SPACE = Space("s", "?", "float_digits", 8, axes=AXES)


def score(config: dict[str, Any], epoch: int) -> float:
    return float(epoch + config["optim.lr"])


def tuned(folder: Path, options: dict[str, Any] | None = None, **more: Any) -> InProcessTune:
    parsed = read_options({"scheduler": "pbt", "interval": 2, **(options or {})})
    scheduler = build_scheduler(parsed, SPACE, SPACE.config({"epochs": 6, "eval.every": 1}))
    return InProcessTune(folder, build_search(SPACE, parsed, []), scheduler, more.pop("score", score), epochs=6, **more)


def by_number(tune: InProcessTune) -> list[Any]:
    return sorted(tune.trials, key=lambda trial: trial.distcond_population["number"])


def course(tune: InProcessTune) -> list[Any]:
    return [(trial.config, trial.distcond_population, trial.last_result["epoch"]) for trial in by_number(tune)]


def test_worst_take_over_from_best_between_rounds(tmp_path: Path) -> None:
    tune = tuned(tmp_path)
    tune.run()
    start = {trial.trial_id: trial for trial in by_number(tune)}
    forks = [(trial, fork) for trial in start.values() for fork in trial.distcond_population.get("lineage", [])]
    assert [fork["epoch"] for _, fork in forks].count(2) == [fork["epoch"] for _, fork in forks].count(4) == 2
    for trial, fork in forks:
        parent = by_number(tune)[fork["trial"]]
        assert fork["run_dir"] == parent.trial_id != trial.trial_id and fork["train_flops"] == 10.0 * fork["epoch"]
        assert fork["params"]["optim.lr"] != trial.config["optim.lr"]
    assert {trial.last_result["epoch"] for trial in tune.trials} == {6}
    assert tune.restored == [(trial.trial_id, fork["run_dir"], fork["epoch"]) for trial, fork in sorted(
        forks, key=lambda pair: (pair[1]["epoch"], pair[0].distcond_population["number"])
    )], "a child begins at its parent's checkpoint"  # fmt: skip


def test_less_is_better_when_minimised(tmp_path: Path) -> None:
    tune = tuned(tmp_path, mode="min")
    tune.run(steps=16)
    tune.controller._scheduler_alg.choose_trial_to_run(tune.controller._wrapped())
    rates = [
        trial.distcond_population.get("lineage", [{}])[0].get("params", trial.config)["optim.lr"]
        for trial in by_number(tune)
    ]
    children = [number for number, trial in enumerate(by_number(tune)) if "lineage" in trial.distcond_population]
    assert {rates[number] for number in children} == set(sorted(rates)[-2:])


@pytest.mark.parametrize("steps", [3, 11, 16, 17, 25, 33, 40])
def test_a_killed_population_makes_the_same_choices(steps: int, tmp_path: Path) -> None:
    whole = tuned(tmp_path / "whole")
    whole.run()
    tuned(tmp_path / "killed").run(steps=steps)
    resumed = tuned(tmp_path / "killed", resume=True)
    resumed.run()
    names = [{trial.trial_id: str(n) for n, trial in enumerate(by_number(tune))} for tune in (whole, resumed)]

    def anonymous(tune: InProcessTune, names: dict[str, str]) -> str:
        text = str(course(tune))
        for name, number in names.items():
            text = text.replace(name, number)
        return text

    assert anonymous(resumed, names[1]) == anonymous(whole, names[0])


def test_failed_trials_hold_up_nobody(tmp_path: Path) -> None:
    tune = tuned(tmp_path, score=failing(3))
    tune.run()
    states = [trial.status for trial in by_number(tune)]
    assert states == ["TERMINATED"] * 3 + ["ERROR"] + ["TERMINATED"] * 4
    assert sum("lineage" in trial.distcond_population for trial in tune.trials) >= 1


def failing(number: int) -> Any:
    seen: list[float] = []

    def of(config: dict[str, Any], epoch: int) -> float:
        if config["optim.lr"] not in seen:
            seen.append(config["optim.lr"])
        if epoch == 2 and seen.index(config["optim.lr"]) == number:
            raise ArithmeticError("no more")
        return score(config, epoch)

    return of


def test_at_most_concurrent_trials_run(tmp_path: Path) -> None:
    tune = tuned(tmp_path, {"concurrent": 3}, at_a_time=99)
    tune.run()
    assert tune.most_running == 3


def test_children_never_repeat_their_parents(tmp_path: Path) -> None:
    # At an end of a choice half of the moves change nothing; a smoothing of 7 is no config.
    axes = (
        Axis("optim.schedule", "choice", values=("constant", "cosine")),
        Axis("label_smoothing", "choice", values=(0.1, 7)),
    )
    space = Space("s", "?", "float_digits", 8, axes=axes)
    tune = tuned(tmp_path)
    tune.run(steps=16)
    scheduler, parent = tune.controller._scheduler_alg, {"optim.schedule": "constant", "label_smoothing": 0.1}
    scheduler._space = space
    changes = [scheduler._change(parent, generator(number)) for number in range(9)]
    assert changes == [{"optim.schedule": "cosine", "label_smoothing": 0.1}] * 9
    scheduler._space = replace(space, axes=axes[1:])
    assert scheduler._change({"label_smoothing": 0.1}, generator(0)) is None


def test_settings_of_the_start_are_not_mutated() -> None:
    for axes in (
        (Axis("method.alpha", "uniform", 0, 1),),
        (Axis("optim.lr", "uniform", 0, 1, when=(("method", ()),)),),
        (),
    ):
        with pytest.raises(ConfigError, match="scheduler=pbt"):
            check_live(Space("s", "?", "float_digits", 8, axes=axes))
