"""A sweep over a function of a user's, and what --confirm makes of its winner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from distcond.results import history
from distcond.results.store import read_rows
from distcond.runs.run_dir import RunDir
from distcond.tuning.sweep_dir import SweepDir
from support import sweeps
from support.sweeps import volume

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(2000)]

FUNCTION = """
def space(trial):
    drawn = {"method": trial.suggest_categorical("method", ["float", "trades"])}
    if drawn["method"] == "float":
        drawn["method.alpha"] = trial.suggest_float("alpha", 0.05, 1.0, log=True)
    else:
        drawn["method.beta"] = trial.suggest_float("beta", 1.0, 6.0)
    return drawn
"""


@pytest.fixture(scope="module")
def by_function(placed: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Where a sweep by a function of a user's has ended."""
    with placed(tmp_path_factory.mktemp("function")) as place:
        (place.path / "own_space.py").write_text(FUNCTION)
        # Of the search's two first trials each has a method of its own.
        words = ("search=nsga2", "objective=hypervolume,train_flops", "trials=2", "sampler=two_point", "epochs=1")
        own = ("dir=sweep", f"data.cache_dir={place.path / 'cache'}", "data.loader=memory")
        process = sweeps.command(place, "own_space:space", *own, *sweeps.TINY, *words, sweeps.ONE)
        assert process.wait() == 0, process.output
        yield place


def test_function_is_searched_for_several_objectives(by_function: Any) -> None:
    sweep, methods = by_function.path / "sweep", set()
    for trial in sweeps.trials(sweep):
        config, records = RunDir(sweep / trial["run"]).config(), history.read(sweep / trial["run"])
        own = {"float": "alpha", "trades": "beta"}[config.method.name]
        assert trial["state"] == "finished" and trial["drawn"].keys() == {"method", f"method.{own}"}
        assert getattr(config.method, own) == pytest.approx(trial["drawn"][f"method.{own}"])
        assert trial["values"] == [volume(sweep / trial["run"]), records[-1]["train_flops"]]
        methods.add(config.method.name)
    assert methods == {"float", "trades"}


def test_winner_is_confirmed_with_fresh_seeds(by_function: Any) -> None:
    place, sweep = by_function, SweepDir(by_function.path / "sweep")
    ranked = sorted(sweep.trials().values(), key=lambda trial: -trial.values[0])
    sweep.write(replace(ranked[0], state="stopped"))  # the best by far, had it been trained to its end
    process = sweeps.command(place, "--confirm", "sweep", "seeds=1", "attack=apgd-ce", "trials=2")
    assert process.wait() == 0, process.output
    told = json.loads((place.path / "sweep" / "confirm.json").read_text())
    looked_at = [trial.number for trial in (*ranked[1:], ranked[0])]
    assert [one["trial"] for one in told["finalists"]] == looked_at and told["winner"] == looked_at[0]
    assert told["seeds"] == [1000] and "(2 trials, 1 pairs trained equally long)" in told["proxy"]
    assert {name: len(of) for name, of in told["values"].items()} == {"winner": 1, "recipe": 1}
    assert f"trial {told['winner']} against the recipe on test, apgd-ce: {told['verdict']}" in process.output
    inner = place.path / "sweep" / "confirm"
    runs = [RunDir(inner / one["run"]) for one in sweeps.trials(inner)]
    assert [run.config().seed for run in runs] == [1000, 1000]
    assert all("apgd-ce" in {row.attack for row in read_rows(run.path)} for run in runs)
