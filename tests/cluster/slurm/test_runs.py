"""The runs of a request, and their IDs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.slurm.runs import SweepRequest, assign_run_ids, expand_runs, format_value
from distcond.config.overrides import resolve
from distcond.config.run_id import run_id
from distcond.data.prepare import prepare_data
from distcond.errors import ConfigError
from distcond.tune import main
from distcond.tuning.space import find_space


def test_grid_and_seeds_are_combined() -> None:
    request = SweepRequest(("float_digits", "epochs=2"), ("method.alpha=0.1,0.5", "sampler=two_point,beta"), "0-2")
    found = expand_runs(request)
    assert len(found) == 12
    assert len({tuple(one.args()) for one in found}) == 12
    assert found[0].args() == ["float_digits", "epochs=2", "method.alpha=0.1", "sampler=two_point", "seed=0"]


def test_semicolons_separate_values_with_commas() -> None:
    found = expand_runs(SweepRequest(grid=("eval.lam_grid=0,1;0,0.5,1",)))
    assert [one.overrides["eval.lam_grid"] for one in found] == ["0,1", "0,0.5,1"]


def test_recipes_can_vary() -> None:
    found = expand_runs(SweepRequest(grid=("recipe=float_digits,oat_digits",)))
    assert [one.recipe for one in found] == ["float_digits", "oat_digits"]


def test_sampling_a_space_is_deterministic() -> None:
    request = SweepRequest(space="noise_scale", trials=5, sample_seed=3)
    first, second = expand_runs(request), expand_runs(request)
    assert first == second and len(first) == 5
    assert {one.recipe for one in first} == {"float_cifar10_resnet20"}
    assert len({one.overrides["method.alpha"] for one in first}) == 5
    assert all(0.03 <= one.overrides["method.alpha"] <= 1 for one in first)
    assert expand_runs(SweepRequest(space="noise_scale", trials=5, sample_seed=4)) != first
    assert len(expand_runs(SweepRequest(space="noise_scale"))) == find_space("noise_scale").trials
    assert expand_runs(SweepRequest(("float_digits",), space="noise_scale", trials=1))[0].recipe == "float_digits"


def test_samples_equal_those_of_tuning(capsys: pytest.CaptureFixture[str]) -> None:
    main(["lam_sampler", "search=random", "search_seed=7", "--show"])
    found = expand_runs(SweepRequest(space="lam_sampler", trials=3, sample_seed=7))
    shown = capsys.readouterr().out.splitlines()[1:]
    assert shown == [f"  trial {number}: {one.overrides}" for number, one in enumerate(found)]


def test_conditional_and_integer_axes(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        'question = "?"\nrecipe = "float_digits"\ntrials = 40\n[space.epochs]\nkind = "integer"\nlow = 1\nhigh = 3\n'
        '[space."optim.schedule"]\nkind = "choice"\nvalues = ["cosine", "onecycle"]\n'
        '[space."optim.warmup"]\nkind = "uniform"\nlow = 0.1\nhigh = 0.3\nwhen = {"optim.schedule" = ["onecycle"]}\n'
    )
    found = [one.overrides for one in expand_runs(SweepRequest(space=str(file)))]
    assert {one["epochs"] for one in found} == {1, 2, 3}
    assert all(("optim.warmup" in one) == (one["optim.schedule"] == "onecycle") for one in found)
    assert len({"optim.warmup" in one for one in found}) == 2


def test_formatted_values_parse_back() -> None:
    for value in (0.1 + 0.2, True, [1.0, 0.5], "cosine", 3, 1e-7):
        config = {float: "optim.weight_decay", bool: "data.augment", str: "optim.schedule", int: "epochs"}
        path = config.get(type(value), "optim.milestones")
        assert resolve("float_digits", {path: format_value(value)}) == resolve("float_digits", {path: value})


def test_run_ids_match_training_and_are_unique(tmp_path: Path) -> None:
    request = SweepRequest((f"data.cache_dir={tmp_path / 'cache'}", "data.loader=memory"), ("optim.lr=0.1,0.10,0.2",))
    runs = assign_run_ids(expand_runs(request), tmp_path)
    assert len(runs) == 2
    config = resolve(runs[1].recipe, runs[1].overrides)
    assert runs[1].run_id == run_id(config, prepare_data(config.data).fingerprint)
    assert runs[1].run_dir == str(tmp_path / runs[1].run_id)


BAD = {
    "grid": (SweepRequest(grid=("epochs",)), ("--grid epochs: ", "PATH=VALUE")),
    "empty": (SweepRequest(grid=("epochs=1,,2",)), ("--grid epochs=1,,2: ",)),
    "seeds": (SweepRequest(seeds="one"), ("--seeds one: ", "0-4")),
    "space": (SweepRequest(space="noise"), ("'noise'", "noise_scale")),
    "trials": (SweepRequest(trials=3), ("--trials 3: ", "--space")),
    "fresh": (SweepRequest(("fresh=true",)), ("fresh: ",)),
    "launch": (SweepRequest(("launch=local",)), ("launch: ",)),
    "uri": (SweepRequest(("run_root=s3://bucket/runs",)), ("run_root=s3://bucket/runs: ",)),
    "value": (SweepRequest(grid=("optim.lr=0.1,-1",)), ("optim.lr=-1: ",)),
    "path": (SweepRequest(grid=("optim.rate=0.1",)), ("'optim.rate'",)),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused(case: str, tmp_path: Path) -> None:
    request, parts = BAD[case]
    with pytest.raises(ConfigError) as error:
        assign_run_ids(expand_runs(request), tmp_path)
    assert all(part in str(error.value) for part in parts) and "\n" not in str(error.value)
