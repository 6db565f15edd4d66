"""Trials as a report reads them from a Ray Tune experiment's files."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from distcond.config.command_line import parse_args
from distcond.config.overrides import resolve, to_settings
from distcond.errors import ConfigError
from distcond.report import main
from distcond.results import trials
from distcond.run_layout import CONFIG_FILE
from distcond.tuning.axis import Axis
from distcond.tuning.options import read_options
from distcond.tuning.ray_backend.schedulers import build_scheduler
from distcond.tuning.ray_backend.searchers import build_search
from distcond.tuning.space import Space
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.sweep_report.commands import command, settings_over_recipe
from distcond.tuning.sweep_report.confirm import finalists, unvaried_space
from distcond.tuning.sweep_report.experiment import read_trials
from distcond.tuning.sweep_report.read import is_sweep, read_sweep
from support.in_process_tune import InProcessTune
from support.processes import run
from support.stored_experiment import StoredExperiment

SPACE = Space("s", "?", "float_digits", 8, axes=(Axis("optim.lr", "loguniform", 0.01, 0.3),))
NAMES = ["hypervolume"]


def row(epoch: int, **more: Any) -> dict[str, Any]:
    usual = {"epoch": epoch, "epochs": 3, "hypervolume": 0.1 * epoch, "sa": 0.9, "ra": 0.4, "run_dir": "/gone/r0"}
    return {**usual, "train_flops": 10.0 * epoch, "seconds": 1.0 * epoch, **more}


@pytest.fixture
def stored(tmp_path: Path) -> StoredExperiment:
    experiment = StoredExperiment(tmp_path / "experiment")
    experiment.add({"optim.lr": 0.1}, "TERMINATED", [row(1), row(2), row(3)])
    experiment.add({"optim.lr": 0.2}, "TERMINATED", [row(1), row(2)])
    experiment.add({"optim.lr": 0.3}, "RUNNING", [row(1, hypervolume=math.nan), row(2)])
    experiment.add({"optim.lr": 0.4}, "PAUSED", [row(1)])
    experiment.add({"optim.lr": 0.5}, "PENDING", [], relative_logdir=None)
    experiment.add({"optim.lr": 0.6}, "ERROR", [row(1)], error="Failure # 1\nValueError: no\n\n")
    experiment.store()
    return experiment


def test_every_state_is_told_apart(stored: StoredExperiment) -> None:
    found = read_trials(stored.path, NAMES)
    assert [trial.state for trial in found] == ["finished", "stopped", "running", "waiting", "waiting", "failed"]
    assert [trial.params["optim.lr"] for trial in found] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert found[2].curve == ((2.0, 0.2),) and found[4].values == () and found[5].error == "ValueError: no"
    assert (found[0].sa, found[0].ra, found[0].flops, found[0].seconds) == (0.9, 0.4, 30.0, 3.0)


def test_torn_files_fall_back_to_older_ones(stored: StoredExperiment) -> None:
    whole = read_trials(stored.path, NAMES)
    newer = stored.store("experiment_state-2026-01-02_00-00-00.json")
    for torn in ("", newer.read_text()[:-9], '{"trial_data": [["{", "{}"]]}', "[]"):
        newer.write_text(torn)
        assert read_trials(stored.path, NAMES) == whole
    copies = {file.name: file.read_text() for file in stored.path.glob("experiment_state-2026-01-01*")}
    (stored.path.parent / "last_state.json").write_text(json.dumps({**copies, "searcher.pkl": "base64:"}))
    for file in stored.path.glob("experiment_state-*"):
        file.write_text("")
    assert read_trials(stored.path, NAMES) == whole
    (stored.path.parent / "runs").mkdir()
    assert is_sweep(stored.path) and not is_sweep(stored.path.parent / "runs")
    (stored.path.parent / "last_state.json").unlink()
    with pytest.raises(ConfigError, match=r"experiment_state"):
        read_trials(stored.path, NAMES)


def test_repeated_and_torn_results_count_once(stored: StoredExperiment) -> None:
    with (stored.path / "t1" / "result.json").open("a") as file:
        file.write(json.dumps(row(2, hypervolume=0.7)) + '\n{"epoch": 3, "hyper')
    found = read_trials(stored.path, NAMES)[1]
    assert found.curve == ((1.0, 0.1), (2.0, 0.7)) and found.epochs == 2


def test_an_exploit_costs_its_child_nothing(tmp_path: Path) -> None:
    experiment = StoredExperiment(tmp_path)
    fork = {"epoch": 2, "trial": 1, "run_dir": "r1", "train_flops": 50.0, "params": {"optim.lr": 0.1}}
    rows = [row(1), row(2), row(3, train_flops=75.0, seconds=1.0)]
    experiment.add({"optim.lr": 0.2}, "TERMINATED", rows, distcond_population={"number": 0, "lineage": [fork]})
    experiment.store()
    found = read_trials(tmp_path, NAMES)[0]
    assert (found.flops, found.seconds, found.lineage) == (20.0 + 25.0, 2.0 + 1.0, (fork,))


def test_nothing_of_it_is_unpickled(stored: StoredExperiment, tmp_path: Path) -> None:
    bomb = "80049521000000000000008c05706f736978948c0673797374656d9493948c0664617465203e94859452942e"
    evil = {"_type": "CLOUDPICKLE_FALLBACK", "value": bomb}
    stored.add({"optim.lr": 0.7, "optim.schedule": evil}, "TERMINATED", [row(1)], storage=evil)
    stored.store()
    for name in ("tuner.pkl", "searcher-state-x.pkl"):
        (stored.path / name).write_bytes(bytes.fromhex(bomb))
    code = f"""
import sys
sys.modules["pickle"] = sys.modules["ray"] = sys.modules["torch"] = None
from pathlib import Path
from distcond.tuning.sweep_report.experiment import read_trials
print(read_trials(Path({str(stored.path)!r}), {NAMES})[-1].params)
"""
    assert run([sys.executable, "-c", code]).output.strip() == "{'optim.lr': 0.7, 'optim.schedule': '(object)'}"


def test_trials_of_others_are_refused(tmp_path: Path) -> None:
    experiment = StoredExperiment(tmp_path)
    experiment.add({"lr": 0.2}, "TERMINATED", [{"epoch": 1, "loss": 0.3}])
    experiment.store()
    with pytest.raises(ConfigError, match="run_dir"):
        read_sweep(tmp_path)


def test_what_ray_writes_is_read(tmp_path: Path) -> None:
    options = read_options({"scheduler": "pbt", "interval": 1})
    scheduler = build_scheduler(options, SPACE, SPACE.config({"epochs": 3, "eval.every": 1}))
    tune = InProcessTune(
        tmp_path, build_search(SPACE, options, []), scheduler, lambda c, e: e + c["optim.lr"], epochs=3
    )
    tune.run()
    found = read_trials(tmp_path / "experiment", NAMES)
    by_number = sorted(tune.trials, key=lambda trial: trial.distcond_population["number"])
    assert [trial.params for trial in found] == [trial.config for trial in by_number]
    assert [trial.values[0] for trial in found] == [trial.last_result["hypervolume"] for trial in by_number]
    assert {trial.state for trial in found} == {"finished"} and sum(bool(trial.lineage) for trial in found) >= 2


def test_a_script_is_reported_by_its_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = StoredExperiment(tmp_path / "mine")
    for number in range(2):
        run_dir, params = tmp_path / "runs" / f"r{number}", {"optim.lr": 0.1 + number / 10}
        config = resolve("float_digits", {"epochs": 3, "method": "trades", "eval.lam_grid": "0,1", **params})
        run_dir.mkdir(parents=True)
        (run_dir / CONFIG_FILE).write_text(json.dumps({"schema_version": 1, "settings": to_settings(config)}))
        experiment.add(params, "TERMINATED", [row(e, run_dir=str(run_dir)) for e in (1, 2, 3)])
    experiment.store()
    assert main([str(experiment.path)]) == 0
    assert "2 finished" in capsys.readouterr().out
    assert trials(experiment.path)["pareto"].all()
    words = command(read_sweep(experiment.path), 1).removeprefix("python -m distcond.train ").replace("'", "").split()
    recipe, settings = parse_args(words)
    assert resolve(recipe, {**settings, "launch.workers": config.launch.workers}) == config


def test_the_winner_of_a_script_can_be_repeated(tmp_path: Path) -> None:
    experiment, run_dir = StoredExperiment(tmp_path / "mine"), tmp_path / "runs" / "r0"
    params = {"method": "trades", "method.beta": 3.0}
    config = resolve("float_digits", {"epochs": 3, "eval.lam_grid": "0,1", "seed": 5, **params})
    run_dir.mkdir(parents=True)
    (run_dir / CONFIG_FILE).write_text(json.dumps({"schema_version": 1, "settings": to_settings(config)}))
    experiment.add(params, "TERMINATED", [row(3, run_dir=str(run_dir))])
    experiment.store()
    sweep = read_sweep(experiment.path)
    space = unvaried_space(sweep, finalists(sweep)[0])
    assert space.config(params) == config
    assert (space.config({}).method.name, space.config({}).epochs, space.config({}).seed) == ("float", 3, 5)


def test_a_sweep_at_a_uri_is_read(tmp_path: Path, stored: StoredExperiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    SweepDir(tmp_path).begin(SPACE, read_options({}))
    assert read_sweep(f"file://{tmp_path}").rows() == read_sweep(tmp_path).rows()


def test_a_sweep_without_trials_is_read(tmp_path: Path) -> None:
    SweepDir(tmp_path).begin(SPACE, read_options({}))
    (tmp_path / "experiment").mkdir()
    assert read_sweep(tmp_path).rows() == [] and main([str(tmp_path)]) == 0


def test_settings_over_a_recipe_give_its_config() -> None:
    for settings in ({"method": "smart"}, {"method": "oat", "eval.lam_grid": "0,0.5", "sampler": "uniform"}, {}):
        config = resolve("float_digits", settings)
        assert resolve("float_digits", settings_over_recipe(config)) == config


def test_damaged_and_old_sweeps_are_one_line(tmp_path: Path) -> None:
    SweepDir(tmp_path).begin(SPACE, read_options({}))
    whole = json.loads((tmp_path / "sweep.json").read_text())
    for content in ("", "[]", "{}", json.dumps({**whole, "schema_version": 1}), json.dumps({**whole, "options": 3})):
        (tmp_path / "sweep.json").write_text(content)
        with pytest.raises(ConfigError) as error:
            read_sweep(tmp_path)
        assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
