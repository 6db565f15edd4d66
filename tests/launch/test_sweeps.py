"""Sweeps on a real Ray: what goes wrong in a trial, populations, and what is refused before anything starts."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distcond.engine.run_dir import RunDir
from distcond.results import history, trials
from distcond.results.pareto import area
from distcond.results.store import read_rows

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(2000)]

_spec = importlib.util.spec_from_file_location("sweeps", Path(__file__).with_name("sweeps.py"))
assert _spec is not None and _spec.loader is not None
sweeps = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sweeps)

FAULTS = """
question = "Which method goes wrong?"
recipe = "float_digits"
trials = {trials}

[space.method]
kind = "choice"
values = ["float", "broken:HANGS", "broken:RAISES", "broken:KILLED", "broken:STARVES", "trades"]

[space."eval.lam_grid"]
kind = "choice"
values = [[0.0, 1.0]]
"""


def test_trials_that_go_wrong_are_told_in_a_line_and_the_others_finish(place: Any) -> None:
    words = ("search=grid", "scheduler=none", "launch.max_failures=0", "hang=90", "retries=0", "sampler=two_point")
    process = sweeps.begin(place, 6, *words, space=FAULTS)
    output = process.communicate(timeout=1800)[0]
    assert process.returncode == 0, output
    found = trials(place.path / "sweep").set_index("method")
    assert list(found["state"]) == ["finished", *["failed"] * 4, "finished"], output
    names = ("HANGS", "RAISES", "KILLED", "STARVES")
    hangs, raises, killed, starves = (found["error"][f"broken:{name}"] for name in names)
    assert hangs.startswith("no progress for 90 s (hang=90); last: "), hangs
    assert raises.startswith("ValueError: the fault of the method (worker 0; traceback in "), raises
    assert killed.startswith("worker 0 died without an exception: killed, out of memory, or crashed"), killed
    assert starves.startswith("RuntimeError: ") and "can't allocate memory" in starves, starves
    assert "(worker 0; traceback in " in starves
    told = [line for line in output.splitlines() if " failed: " in line]
    assert len(told) == 4, output
    assert "Traceback" not in output


def test_a_population_exploits_and_the_mutated_value_is_the_one_that_trains(place: Any) -> None:
    words = ("scheduler=pbt", "interval=1", "quantile=0.5", "optim.schedule=constant", "epochs=3")
    process = sweeps.begin(place, 2, *words)
    output = process.communicate(timeout=1800)[0]
    assert process.returncode == 0, output
    sweep, lineages = place.path / "sweep", 0
    for trial in sweeps.trials(sweep):
        assert trial["state"] == "finished", output
        assert [point[0] for point in trial["curve"]] == [1, 2, 3]
        heirs = [*(fork["own_run"] for fork in trial["lineage"]), trial["run"]][1:]
        for fork, run in zip(trial["lineage"], heirs, strict=True):
            lineages += 1
            assert json.loads((sweep / run / "lineage.json").read_text())["run"] == Path(fork["run"]).name
            records, config = history.read(sweep / run), RunDir(sweep / run).config()
            assert records[0]["epoch"] == fork["epoch"] + 1
            assert {record["lr"] for record in records} == {config.optim.lr}
            assert config.optim.lr != fork["drawn"]["optim.lr"]
        assert RunDir(sweep / trial["run"]).config().optim.lr == pytest.approx(trial["drawn"]["optim.lr"])
    assert lineages == 2, "one of two, after each of two rounds"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("launch.workers=500",), "launch.workers=500: this machine has"),
        (("concurrent=400",), "concurrent=400: this machine has room for"),
        (("launch.device=cuda",), "launch.device=cuda: this machine has no GPU"),
        (("objective=ra@0.3",), "objective=ra@0.3: never measured, eval.lam_grid is 0, 1"),
        (("scheduler=asha", "grace=3"), "grace=3: not below epochs=2"),
        (("scheduler=asha", "eval.every=2"), "grace=1: no validation then, eval.every=2"),
        (("launch=local",), "launch=local: trials run on Ray Train"),
        (("optim.lrr=1",), "unknown setting 'optim.lrr'"),
        (("search=bayes",), "unknown value for search 'bayes'"),
    ],
)
def test_what_cannot_run_is_refused_before_ray_starts(place: Any, words: tuple[str, ...], said: str) -> None:
    process = sweeps.begin(place, 2, *words)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 2, output
    assert output.startswith(f"error: {said}") and output.count("\n") == 1, output
    assert not (place.path / "sweep" / "sweep.json").exists()


def test_a_ray_tune_script_of_ones_own_trains_runs(place: Any) -> None:
    words = [sys.executable, str(Path(__file__).with_name("own_script.py")), str(place.path / "cache")]
    environment = {**place.environment, "RAY_AUTH_MODE": "disabled", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
    environment["RAY_worker_niceness"] = "0"  # by default whatever else runs here would go first
    done = subprocess.run(words, cwd=place.path, env=environment, text=True, capture_output=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert [one["epoch"] for one in found] == [2, 2]
    runs = [path for path in (place.path / "runs").iterdir() if path.is_dir()]
    assert [RunDir(run).finished for run in runs] == [True, True]
    assert {round(one["hypervolume"], 6) for one in found} == {round(_volume(run), 6) for run in runs}


def _volume(run: Path) -> float:
    kept = max(history.read(run), key=lambda record: record["val_score"])["val"]
    return area([(at["sa"], at["ra"]) for at in kept])


def test_a_winner_is_looked_at_again_with_fresh_seeds_and_a_stronger_attack(place: Any) -> None:
    process = sweeps.begin(place, 1)
    output = process.communicate(timeout=1800)[0]
    assert process.returncode == 0, output
    process = sweeps.command(place, "--confirm", "sweep", "seeds=2", "attack=apgd-ce")
    output = process.communicate(timeout=1800)[0]
    assert process.returncode == 0, output
    told = json.loads((place.path / "sweep" / "confirm.json").read_text())
    assert told["winner"] == 0 and told["seeds"] == [1000, 1001] and len(told["finalists"]) == 1
    assert {name: len(of) for name, of in told["values"].items()} == {"winner": 2, "recipe": 2}
    assert f"trial 0 against the recipe on test, apgd-ce: {told['verdict']}" in output
    runs = [
        RunDir(place.path / "sweep" / "confirm" / one["run"]) for one in sweeps.trials(place.path / "sweep" / "confirm")
    ]
    assert [run.config().seed for run in runs] == [1000, 1001, 1000, 1001]
    assert all("apgd-ce" in {row.attack for row in read_rows(run.path)} for run in runs)
