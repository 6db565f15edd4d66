"""A sweep over a function of a user's, and what --confirm makes of its winner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distcond.results import history
from distcond.results.store import read_rows
from distcond.runs.run_dir import RunDir
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
        run = Path(trial.run)
        config, records = RunDir(run).config(), history.read(run)
        own = {"float": "alpha", "trades": "beta"}[config.method.name]
        assert trial.state == "finished" and trial.params.keys() == {"method", f"method.{own}"}
        assert getattr(config.method, own) == pytest.approx(trial.params[f"method.{own}"])
        assert trial.values == (volume(run), records[-1]["train_flops"])
        methods.add(config.method.name)
    assert len(methods) > 0


def test_winner_is_confirmed_with_fresh_seeds(by_function: Any) -> None:
    place, sweep = by_function.path, by_function.path / "sweep"
    ranked = sorted(sweeps.trials(sweep), key=lambda trial: -trial.values[0])
    process = sweeps.command(by_function, "--confirm", "sweep", "seeds=1", "attack=apgd-ce", "trials=2")
    assert process.wait() == 0, process.output
    told = json.loads((place / "sweep" / "confirm.json").read_text())
    assert [one["trial"] for one in told["finalists"]] == [trial.number for trial in ranked]
    assert told["winner"] == ranked[0].number and told["seeds"] == [1000]
    assert {name: len(of) for name, of in told["values"].items()} == {"winner": 1, "recipe": 1}
    assert f"trial {told['winner']} against the recipe on test, apgd-ce: {told['verdict']}" in process.output
    runs = [RunDir(run) for run in (sweep / "runs").glob("[!.]*/")]
    fresh = [run for run in runs if run.config().seed == 1000]
    assert len(fresh) == 2 and all("apgd-ce" in {row.attack for row in read_rows(run.path)} for run in fresh)
