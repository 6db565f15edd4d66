"""Sweeps on a real Ray: what goes wrong in a trial, populations, and what is refused before anything starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.engine.checkpoint import load_own, load_shared, moments
from distcond.engine.run_dir import RunDir
from distcond.launch.capacity import this_machine
from distcond.results import history, trials
from distcond.results.pareto import area
from distcond.results.store import read_rows
from distcond.tuning.sweep_dir import SweepDir
from support import sweeps

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(2000)]

FAULTS = """
question = "Which method goes wrong?"
recipe = "float_digits"
trials = {trials}

[space.method]
kind = "choice"
values = [
  "float", "broken:RAISES", "broken:KILLED", "broken:STARVES", "broken:HANGS", "broken:HANGS_TOO", "trades"
]

[space."eval.lam_grid"]
kind = "choice"
values = [[0.0, 1.0]]
"""


def test_trials_that_go_wrong_are_told_in_a_line_and_the_others_finish(place: Any) -> None:
    words = ("search=grid", "scheduler=none", "launch.max_failures=0", "hang=90", "retries=0", "sampler=two_point")
    # At most two at a time on any machine: the last finds room only if a trial that hangs gives its own back.
    half = f"launch.cpus_per_worker={-(-this_machine().cores // 2)}"
    process = sweeps.begin(place, 7, *words, half, space=FAULTS)
    output = process.communicate(timeout=1800)[0]
    assert process.returncode == 0, output
    found = trials(place.path / "sweep").set_index("method")
    assert list(found["state"]) == ["finished", *["failed"] * 5, "finished"], output
    names = ("HANGS", "HANGS_TOO", "RAISES", "KILLED", "STARVES")
    hangs, too, raises, killed, starves = (found["error"][f"broken:{name}"] for name in names)
    assert all(line.startswith("no progress for 90 s (hang=90); last: ") for line in (hangs, too)), (hangs, too)
    assert raises.startswith("ValueError: the fault of the method (worker 0; traceback in "), raises
    assert killed.startswith("worker 0 died without an exception: killed, out of memory, or crashed"), killed
    assert starves.startswith("RuntimeError: ") and "can't allocate memory" in starves, starves
    assert "(worker 0; traceback in " in starves
    told = [line for line in output.splitlines() if " failed: " in line]
    assert len(told) == 5, output
    assert "Traceback" not in output


def test_a_population_exploits_and_the_mutated_value_is_the_one_that_trains(
    place: Any, wait_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)  # where the method lies that the runs' configs name
    slow, swift = ("method=faulty:METHOD", "batch_size=16"), place.path / "swift"
    words = ("scheduler=pbt", "interval=1", "quantile=0.5", "optim.schedule=constant", "epochs=3")
    process = sweeps.begin(place, 2, *words, *slow, FAULT_SLOW=str(swift))
    found = place.path / "sweep" / "runs"
    wait_for(lambda: list(found.glob("*/lineage.json")) or process.poll() is not None, "an exploit", 1500)
    # Both stand at the checkpoint of the exploit still: new workers and eight slow steps are between them and the next.
    for heir in found.glob("*/lineage.json"):
        _has_the_donors_network(heir.parent, wait_for)
    swift.touch()
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


def _has_the_donors_network(heir: Path, wait_for: Any) -> None:
    lineage = json.loads((heir / "lineage.json").read_text())
    both = [run / "checkpoints" / f"epoch-{lineage['epoch']:04d}" for run in (heir.parent / lineage["run"], heir)]
    wait_for(both[1].is_dir, "the heir's checkpoint, which comes after its lineage")
    theirs, ours = ({**load_shared(at)["model"], **load_own(at, 0)["statistics"]} for at in both)
    assert theirs.keys() == ours.keys() and all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


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
def test_invalid_sweep_is_refused_before_ray_starts(place: Any, words: tuple[str, ...], said: str) -> None:
    process = sweeps.begin(place, 2, *words)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 2, output
    assert output.startswith(f"error: {said}") and output.count("\n") == 1, output
    assert not (place.path / "sweep" / "sweep.json").exists()


def test_rays_own_asha_stops_a_trial_of_a_users_script_and_the_others_finish(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    words = [sys.executable, str(Path(__file__).with_name("own_script.py")), str(place.path / "cache")]
    environment = {**place.environment, "RAY_AUTH_MODE": "disabled", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
    environment["RAY_worker_niceness"] = "0"  # by default whatever else runs here would go first
    environment["FAULT_SLOW"] = str(place.path / "never")
    done = subprocess.run(words, cwd=place.path, env=environment, text=True, capture_output=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert [one["epoch"] for one in found] == [2, 1, 2]
    runs = {RunDir(run).config().attack.num_steps: RunDir(run) for run in (place.path / "runs").glob("[!.]*/")}
    assert {steps: run.finished for steps, run in runs.items()} == {2: True, 9: False, 1: True}
    for one, steps in ((found[0], 2), (found[2], 1)):
        assert one["hypervolume"] == pytest.approx(_volume(runs[steps].path))
    assert moments(runs[9].checkpoints), "stopped with a checkpoint"
    assert 1 <= len(history.read(runs[9].path)) < 200


def _volume(run: Path) -> float:
    kept = max(history.read(run), key=lambda record: record["val_score"])["val"]
    return area([(at["sa"], at["ra"]) for at in kept])


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
        words = ("search=nsga2", "objective=hypervolume,train_flops", "trials=4", "sampler=two_point")
        own = ("dir=sweep", f"data.cache_dir={place.path / 'cache'}", "data.loader=memory")
        process = sweeps.command(place, "own_space:space", *own, *sweeps.TINY, *words)
        output = process.communicate(timeout=1800)[0]
        assert process.returncode == 0, output
        yield place


def test_a_function_of_a_users_is_searched_for_several_objectives(by_function: Any) -> None:
    sweep, methods = by_function.path / "sweep", set()
    for trial in sweeps.trials(sweep):
        config, records = RunDir(sweep / trial["run"]).config(), history.read(sweep / trial["run"])
        own = {"float": "alpha", "trades": "beta"}[config.method.name]
        assert trial["state"] == "finished" and trial["drawn"].keys() == {"method", f"method.{own}"}
        assert getattr(config.method, own) == pytest.approx(trial["drawn"][f"method.{own}"])
        assert trial["values"] == [_volume(sweep / trial["run"]), records[-1]["train_flops"]]
        methods.add(config.method.name)
    assert methods == {"float", "trades"}


def test_a_winner_is_looked_at_again_with_fresh_seeds_and_a_stronger_attack(by_function: Any) -> None:
    place, sweep = by_function, SweepDir(by_function.path / "sweep")
    ranked = sorted(sweep.trials().values(), key=lambda trial: -trial.values[0])
    sweep.write(replace(ranked[0], state="stopped"))  # the best by far, had it been trained to its end
    process = sweeps.command(place, "--confirm", "sweep", "seeds=2", "attack=apgd-ce", "trials=4")
    output = process.communicate(timeout=1800)[0]
    assert process.returncode == 0, output
    told = json.loads((place.path / "sweep" / "confirm.json").read_text())
    looked_at = [trial.number for trial in (*ranked[1:], ranked[0])]
    assert [one["trial"] for one in told["finalists"]] == looked_at and told["winner"] == looked_at[0]
    assert told["seeds"] == [1000, 1001] and "(4 trials, 6 pairs trained equally long)" in told["proxy"]
    assert {name: len(of) for name, of in told["values"].items()} == {"winner": 2, "recipe": 2}
    assert f"trial {told['winner']} against the recipe on test, apgd-ce: {told['verdict']}" in output
    inner = place.path / "sweep" / "confirm"
    runs = [RunDir(inner / one["run"]) for one in sweeps.trials(inner)]
    assert [run.config().seed for run in runs] == [1000, 1001, 1000, 1001]
    assert all("apgd-ce" in {row.attack for row in read_rows(run.path)} for run in runs)
