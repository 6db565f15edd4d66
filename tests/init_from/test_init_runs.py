"""Runs with init_from: applied at the first start only, with a run ID by content."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond import train
from distcond.atomic_io import read_json
from distcond.config.command_line import parse
from distcond.config.overrides import to_settings
from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.init_from import initialise
from distcond.init_from.initialise import check_init_from, read_weights
from distcond.models.conditional import AtLambda
from distcond.runs.build import build_model
from distcond.runs.checkpoint import Position
from distcond.runs.load_run import find_checkpoint, load
from distcond.runs.run_dir import RunDir
from distcond.training import fit
from distcond.training.build_trainer import build_trainer
from distcond.training.trainer import Trainer


@pytest.fixture
def source(small: Any, whole: Any) -> Path:
    """A standard network after two epochs; to be read only."""
    found: Path = whole(small("standard", epochs=2))
    return found


def initialised(config: Config, path: Path) -> Trainer:
    """A run just before its first step."""
    trainer = build_trainer(config, World(), RunDir(path), 0)
    initialise.apply_init_from(trainer.model, trainer.config, trainer.run, trainer.world)
    fit.begin_stage(trainer, Position())
    return trainer


def test_run_starts_with_the_best_checkpoints_function(small: Any, tmp_path: Path, source: Path) -> None:
    trainer, x = initialised(small("float", init_from=str(source)), tmp_path / "a"), torch.rand(6, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(AtLambda(trainer.model.eval(), 0.0)(x), AtLambda(load(source), 0.0)(x), rtol=0, atol=1e-5)
    record = read_json(tmp_path / "a" / "init_from.json")
    assert record["init_from"] == str(source)
    assert record["copied"]["units.0.norm.adv.running_var"] == "units.0.norm.running_var"
    assert record["fresh"] == [f"units.{unit}.conv.alpha" for unit in range(4)]


def test_named_checkpoint_is_read(small: Any, whole: Any, source: Path) -> None:
    last = find_checkpoint(RunDir(source), "last")
    weights = read_weights(str(last))
    for name, value in load(source, "last").backbone.state_dict().items():
        assert torch.equal(weights.tensors[name], value)
    assert read_weights(str(source)).digest == read_weights(str(find_checkpoint(RunDir(source), "best"))).digest
    other = whole(small("standard", epochs=1, seed=3))
    assert read_weights(str(other)).digest != read_weights(str(source)).digest


@pytest.mark.parametrize("averaging", [pytest.param(0, marks=pytest.mark.cluster), 0.9])
def test_source_is_averaged_over_ranks_and_steps(small: Any, tmp_path: Path, run_ranks: Any, averaging: float) -> None:
    config = small("flying_bird", epochs=1, optim__averaging=averaging, optim__lr=0.3)
    with RunDir(tmp_path / "a").begin(config):
        run_ranks(on_rank, 2, config, tmp_path / "a")
    wanted, found = load(tmp_path / "a").backbone.state_dict(), read_weights(str(tmp_path / "a")).tensors
    assert all(torch.equal(found[name], value) for name, value in wanted.items() if value.is_floating_point())
    raw = load(tmp_path / "a", "last_raw").backbone.state_dict()
    assert torch.equal(found["units.1.conv.weight"], raw["units.1.conv.weight"]) == (averaging == 0)


def on_rank(rank: int, world: int, config: Config, path: Path) -> None:
    fit.fit(config, World(rank, world), path)


@pytest.mark.parametrize("method", ["flying_bird", "floats", "smart"])
def test_masks_prune_the_loaded_weights(small: Any, tmp_path: Path, source: Path, method: str) -> None:
    theirs = load(source).backbone.state_dict()
    trainer = initialised(small(method, init_from=str(source), method__density=0.5), tmp_path / "a")
    weight = trainer.model.backbone.state_dict()["units.2.conv.weight"]
    assert 0 < int((weight == 0).sum()) < weight.numel()
    assert torch.equal(weight, theirs["units.2.conv.weight"] * (weight != 0))


def test_weight_average_starts_at_loaded_weights(small: Any, tmp_path: Path, source: Path) -> None:
    trainer = initialised(small("float", init_from=str(source), optim__averaging=0.9), tmp_path / "a")
    assert torch.equal(trainer.evaluated_model().backbone.linear.weight, load(source).backbone.linear.weight)


def kill_after(config: Config, path: Path, after: int) -> Trainer:
    """A run that was killed `after` epochs."""
    seen: list[Trainer] = []
    original = fit.train_epoch

    def killed(trainer: Trainer, progress: Any) -> Any:
        if trainer.position.done == after:
            seen.append(trainer)
            raise KeyboardInterrupt
        return original(trainer, progress)

    with pytest.MonkeyPatch.context() as patch, RunDir(path).begin(config):
        patch.setattr(fit, "train_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            fit.fit(config, World(), path)
    return seen[0]


def test_resumed_run_ignores_init_from(small: Any, tmp_path: Path, source: Path) -> None:
    shutil.copytree(source, tmp_path / "source")
    config = small("float", init_from=str(tmp_path / "source"), epochs=2)
    before = kill_after(config, tmp_path / "a", after=1).model.state_dict()
    shutil.move(tmp_path / "source", tmp_path / "elsewhere")
    resumed = kill_after(config, tmp_path / "a", after=1).model.state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in before.items())
    start = load(tmp_path / "elsewhere").state_dict()["backbone.linear.weight"]
    assert not torch.equal(resumed["backbone.linear.weight"], start)
    with pytest.raises(ConfigError, match="no such file or directory"):
        kill_after(config, tmp_path / "b", after=1)


def start_on_rank(rank: int, world: int, config: Config, paths: list[str], run: Path) -> str:
    trainer = build_trainer(replace(config, init_from=paths[rank]), World(rank, world), RunDir(run), 0)
    try:
        initialise.apply_init_from(trainer.model, trainer.config, trainer.run, trainer.world)
    except ConfigError as error:
        return str(error)
    return ""


def test_ranks_that_read_different_content_are_refused(
    small: Any, tmp_path: Path, source: Path, run_ranks: Any
) -> None:
    config = small("float")
    copy = shutil.copytree(source, tmp_path / "copy")
    torch.save(build_model(small("standard", seed=8)).state_dict(), tmp_path / "other.pth")
    fine = run_ranks(start_on_rank, 2, config, [str(source), str(copy)], tmp_path / "a")
    assert fine == ["", ""]
    found = run_ranks(start_on_rank, 2, config, [str(source), str(tmp_path / "other.pth")], tmp_path / "b")
    assert all("the workers read different content; use a path that all nodes share" in text for text in found)


def arguments(config: Config, root: Path, **settings: Any) -> list[str]:
    """The command line of a config."""
    left_out = ("recipe", "method.", "sampler.")
    plain = {path: value for path, value in to_settings(config).items() if not path.startswith(left_out)}
    plain |= {"run_root": str(root), **{name.replace("__", "."): value for name, value in settings.items()}}
    text = {path: ",".join(map(str, v)) if isinstance(v, list) else str(v) for path, v in plain.items()}
    return ["float_digits", f"method={config.method.name}", *(f"{path}={value}" for path, value in text.items())]


def run_path_of(words: list[str]) -> Path:
    """The run directory of a command line."""
    config = parse(words).config
    return train.resolve_run(config, check_init_from(config)).path


def test_content_not_path_decides_the_run_id(
    small: Any, tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root, file = tmp_path / "runs", tmp_path / "a.pth"
    config = small("float", epochs=1)
    with caplog.at_level("INFO"):
        assert train.main(arguments(config, root, init_from=str(source))) == 0
    lines = [line for line in caplog.messages if line.startswith("init_from=")]
    assert len(lines) == 1
    assert (
        "26 tensors by the names of distcond to 46 here; 4 of ours start fresh, such as units.0.conv.alpha" in lines[0]
    )
    runs = list(root.iterdir())
    assert len(runs) == 1
    record = json.loads((runs[0] / "init_from.json").read_text())
    assert len(record["digest"]) == 16
    capfd.readouterr()
    # The same content elsewhere is the same run.
    copy = shutil.copytree(source, tmp_path / "copy")
    assert train.main(arguments(config, root, init_from=str(copy))) == 0
    assert "already finished" in capfd.readouterr().out
    torch.save({"state_dict": {f"module.{n}": v for n, v in load(source).state_dict().items()}}, file)
    assert run_path_of(arguments(config, root, init_from=str(file))) == runs[0]
    # Other content at the same path is another run, and so is a random start.
    torch.save(load(source, "last").state_dict() | {"backbone.linear.bias": torch.ones(10)}, file)
    others = {run_path_of(arguments(config, root, init_from=str(file))), run_path_of(arguments(config, root))}
    assert len(others - set(runs)) == 2
    assert list(root.iterdir()) == runs


def test_unreadable_source_is_refused_before_the_launcher(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*arguments: object) -> int:
        raise AssertionError("the cluster was asked first")

    monkeypatch.setattr(train.driver, "check", too_late)
    for launcher in ("ray", "local"):
        with pytest.raises(ConfigError, match=r"^init_from=.*nowhere: "):
            train.main(arguments(small("float", launch=launcher), tmp_path, init_from=str(tmp_path / "nowhere")))
    assert list(tmp_path.iterdir()) == []


def test_no_report_without_init_from(small: Any, tmp_path: Path) -> None:
    config = small("float", epochs=1)
    assert check_init_from(config) is None
    initialised(config, tmp_path / "a")
    assert not (tmp_path / "a" / "init_from.json").exists()
