"""The public Python API."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import distcond
from distcond import api
from distcond.config.overrides import resolve
from distcond.config.run_id import run_id
from distcond.data.prepare import prepare_data
from distcond.errors import ConfigError
from distcond.train import main as train_command

COMMANDS = ("train", "evaluate", "export")
#: A run of about a second.
SETTINGS: Mapping[str, Any] = {
    "data.loader": "memory", "epochs": 2, "train_examples": 128, "batch_size": 64, "model.widths": (4, 8),
    "attack.num_steps": 1, "eval.every": 1, "eval.val_examples": 30, "eval.val_steps": 1, "eval.test_examples": 40,
    "eval.train_examples": 0, "eval.attack.num_steps": 2, "eval.dial_grid": [0, 0.5, 1],
}  # fmt: skip


@pytest.fixture(scope="module")
def settings(digits_cache: Path) -> dict[str, Any]:
    """The settings of a small run with a shared cache."""
    return {**SETTINGS, "data.cache_dir": str(digits_cache)}


@pytest.fixture(scope="module")
def run(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> distcond.Run:
    """A run that `distcond.train` trained."""
    return distcond.train("float_digits", settings, run_root=tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("name", [name for name in distcond.__all__ if name not in ("__version__", *COMMANDS)])
def test_package_exports_the_api(name: str) -> None:
    assert getattr(distcond, name) is getattr(api, name)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_modules_are_callable(name: str) -> None:
    command, function = getattr(distcond, name), getattr(api, name)
    assert command is sys.modules[f"distcond.{name}"]
    assert callable(command.main)
    assert inspect.signature(command) == inspect.signature(function)
    assert pickle.loads(pickle.dumps(command)) is command


def test_unknown_name_raises_attribute_error() -> None:
    for module in (distcond, api):
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = module.no_such_name


def test_identified_run_has_the_training_id(tmp_path: Path) -> None:
    config = resolve("float_digits", {"data.cache_dir": str(tmp_path), "data.loader": "memory"})
    assert api.identify_run(config) == run_id(config, prepare_data(config.data).fingerprint)
    with pytest.raises(ConfigError, match=r"init_from"):
        api.identify_run(resolve("float_digits", {"init_from": str(tmp_path / "none.pt")}))


def test_cluster_commands_import_no_torch() -> None:
    script = "import sys, cluster.slurm.submit, cluster.slurm.gather; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_trained_run_equals_the_local_command(
    run: distcond.Run, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def text(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    options = [f"{path}={text(value)}" for path, value in settings.items()]
    assert train_command(["float_digits", *options, f"run_root={tmp_path}", "launch=local"]) == 0
    other = distcond.Run(tmp_path / run.name)
    assert run.config.launch.name == "local"
    ours, theirs = run.model("last").state_dict(), other.model("last").state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    measured = ["lam", "blend_t", "attack", "checkpoint", "split", "num_correct", "num_examples"]
    assert run.results()[measured].equals(other.results()[measured])


def test_finished_run_is_returned_untouched(run: distcond.Run, settings: dict[str, Any]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (run.path / "checkpoints").rglob("*.pt")}
    again = distcond.train("float_digits", settings, run_root=run.path.parent)
    assert again.path == run.path and again.finished
    assert {path: path.stat().st_mtime_ns for path in (run.path / "checkpoints").rglob("*.pt")} == before


def test_curve_has_one_line_per_position(run: distcond.Run) -> None:
    curve = run.curve()
    assert list(curve["dial"]) == [0.0, 0.5, 1.0]
    assert set(curve["rule"]) == {"weights"} and set(curve["attack"]) == {"pgd"}
    assert (curve["num_examples"] == 40).all()
    assert (curve["sa_low"] <= curve["sa"]).all() and (curve["ra"] <= curve["ra_high"]).all()
    assert (curve["ra"] <= curve["sa"]).all()
    clean = run.curve("none")
    assert list(clean["sa"]) == list(curve["sa"]) and clean["ra"].isna().all()


def test_curve_on_validation_is_that_of_training(run: distcond.Run) -> None:
    assert set(run.curve(split="val")["num_examples"]) == {30}
    assert list(run.history()["epoch"]) == [1, 2]


def test_missing_curve_names_what_was_measured(run: distcond.Run) -> None:
    with pytest.raises(ConfigError, match=r"attack=square dial=weights: .*measured: .*attack=pgd dial=weights"):
        run.curve("square")
    with pytest.raises(ConfigError, match=r"dial=switch"):
        run.curve(dial="switch")


def test_evaluation_adds_a_curve(run: distcond.Run) -> None:
    frame = distcond.evaluate(run, "fgsm", positions=[0, 1], examples=10)
    assert list(frame["dial"]) == [0.0, 1.0] and set(frame["num_examples"]) == {10}
    measured = ["dial", "sa", "ra", "attack", "num_examples"]
    assert run.curve("fgsm")[measured].equals(frame[measured])
    assert set(run.curve()["num_examples"]) == {40}
    stronger = run.evaluate("pgd", positions=[1], settings={"eval.attack.num_steps": 3})
    assert set(stronger["num_steps"]) == {3}
    assert set(run.curve()["num_steps"]) == {2} and set(run.curve("pgd")["num_steps"]) == {2, 3}
    run.evaluate(settings={"eval.dial_lam": 0.2}, positions=[0, 0.5, 1])
    run.evaluate(noise="fresh", positions=[0, 0.5, 1])
    assert list(run.curve()["dial"]) == [0, 0.5, 1], "one line per position of the run's own dial"
    switch = run.evaluate(dial="switch", positions=[0, 1])
    assert set(switch["rule"]) == {"switch"}


def test_network_is_the_one_at_the_dial(run: distcond.Run) -> None:
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = distcond.AtDial(distcond.load(run.path), 0.5)(images)
    assert torch.equal(run.network(0.5)(images), expected)
    assert torch.equal(run.network(distcond.OperatingPoint(1.0, "weights", 0.5))(images), expected)
    with pytest.raises(ConfigError, match=r"dial=1\.5"):
        run.network(1.5)


def test_export_loads_as_the_plain_network(run: distcond.Run, tmp_path: Path) -> None:
    folders = distcond.export(run, [0, 0.5], formats=["safetensors"], out=tmp_path)
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(distcond.load(folders[1])(images), run.network(0.5)(images))
    with pytest.raises(ConfigError, match=r"distcond\.load"):
        distcond.Run(folders[0])
    with pytest.raises(ConfigError, match="formats"):
        run.export(0.5, formats=["pickle"])
    with pytest.raises(ConfigError, match=r"^formats=torchvision: it has no small_cnn"):
        run.export(0.5, formats=["torchvision"], keep_norm=True, narrow=False)


def test_run_shows_itself_in_a_notebook(run: distcond.Run) -> None:
    html = run._repr_html_()
    assert str(run.path) in html and "finished" in html and html.count("<tr>") == 4 + 1 + 3
    figure = run.plot()
    assert len(figure.axes) == 2
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_unfinished_run_shows_itself_without_a_curve(run: distcond.Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes((run.path / "config.json").read_bytes())
    unfinished = distcond.Run(tmp_path / "run")
    assert not unfinished.finished and "waiting" in unfinished._repr_html_()
    for read in (unfinished.curve, unfinished.plot, unfinished.model):
        with pytest.raises(ConfigError, match=r"yet"):
            read()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distcond.train("float_digit"), "unknown recipe 'float_digit'"),
        (lambda: distcond.train(settings={"epoch": 3}), "unknown setting 'epoch'"),
        (lambda: distcond.train(settings={"data": "cifar10", "data.root": "/no/such/folder"}), "data.root"),
        (lambda: distcond.train(settings={"launch": "local"}, launch="ray"), "give it once"),
        (lambda: distcond.train(settings={"launch.workers": 2}), "launch.workers=2"),
        (lambda: distcond.train(run_root="/proc/no"), "run_root"),
        (lambda: distcond.Run("/no/such/run"), "no run here"),
        (lambda: distcond.evaluate("/no/such/run"), "no run here"),
        (lambda: distcond.export("/no/such/run", 0.5), "no run here"),
    ],
)
def test_mistakes_raise_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_wrong_options_of_evaluations_are_refused(run: distcond.Run) -> None:
    for options, message in (
        ({"attack": "pdg"}, "unknown attack 'pdg'"),
        ({"settings": {"epochs": 3}}, "unknown setting of an evaluation 'epochs'"),
        ({"split": "train"}, "split"),
        ({"examples": 5, "settings": {"eval.test_examples": 6}}, "give it once"),
    ):
        with pytest.raises(ConfigError, match=message):
            run.evaluate(**options)  # type: ignore[arg-type]


def test_lists_are_frames_by_name() -> None:
    recipes = distcond.list_recipes()
    assert recipes.loc["float_digits", "method"] == "float" and recipes.loc["float_digits", "epochs"] == 30
    assert "pgd_at" in distcond.list_methods().index and "resnet18" in distcond.list_models().index
    assert "digits" in distcond.list_datasets().index and "autoattack" in distcond.list_attacks().index


def test_ray_is_chosen_in_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    from distcond.api.training import make_config

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert make_config("", {}, None, None, False).launch.name == "local"
    monkeypatch.setitem(os.environ, "RAY_ADDRESS", "127.0.0.1:6379")
    assert make_config("", {}, None, None, False).launch.name == "ray"
    assert make_config("", {"launch": "local"}, None, None, False).launch.name == "local"
    assert make_config("", {}, "local", None, True).fresh
