"""A run that continues from the checkpoint of another with changed settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.results import history
from distcond.runs.attempts import epochs_done
from distcond.runs.checkpoint import load_shared
from distcond.runs.run_dir import RunDir
from distcond.training.build_trainer import build_trainer
from distcond.training.checkpointing import resume_training
from distcond.training.continue_from import continue_from
from distcond.training.fit import begin_training, fit


@pytest.fixture(scope="module")
def paused_run(
    tiny: Callable[..., Config], digits_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, Path]:
    """A run of three epochs that was left after one."""
    path = tmp_path_factory.mktemp("parent") / "parent"
    config = tiny(
        epochs=3, train_examples=64, batch_size=32, attack__num_steps=1, eval__val_examples=16, eval__val_steps=1,
        eval__test_examples=16, eval__attack__num_steps=1, eval__train_examples=0, eval__every=1, eval__sentinel="off",
        data__loader="memory", data__cache_dir=str(digits_cache),
    )  # fmt: skip
    with RunDir(path).begin(config), begin_training(config, World(), path, 0) as training:
        assert next(training.epochs()) == 1
        training.save()
    return config, path


@pytest.fixture
def parent(paused_run: tuple[Config, Path], tmp_path: Path) -> tuple[Config, Path]:
    """A copy of the paused_run run, and the config with its root."""
    shutil.copytree(paused_run[1], tmp_path / "parent")
    return replace(paused_run[0], run_root=str(tmp_path)), tmp_path / "parent"


def test_run_left_between_epochs_resumes(parent: tuple[Config, Path]) -> None:
    config, path = parent
    assert epochs_done(path) == 1
    assert fit(config, World(), path) is True
    assert [record["epoch"] for record in history.read(path)] == [1, 2, 3]


def test_child_has_parents_weights_and_new_settings(
    parent: tuple[Config, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = parent
    changed = replace(config, optim=replace(config.optim, lr=0.033, weight_decay=0.0077, momentum=0.5))
    on_disk, sync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: on_disk.add(os.fstat(file).st_ino) or sync(file))
    run = continue_from(changed, path, 1, "2")
    assert {file.stat().st_ino for file in run.checkpoints.glob("*/*.pt")} <= on_disk
    before = load_shared(path / "checkpoints" / "epoch-0001")
    with run.begin(changed):
        trainer = build_trainer(changed, World(), run, 0)
        assert resume_training(trainer)
    assert trainer.position.done == 1 and trainer.best is None
    state = trainer.model.state_dict()
    assert all(torch.equal(tensor, before["model"][name]) for name, tensor in state.items())
    assert [group["weight_decay"] for group in trainer.optimiser.param_groups] == [0.0077, 0.0]
    assert {group["momentum"] for group in trainer.optimiser.param_groups} == {0.5}
    kept = [entry["momentum_buffer"] for entry in trainer.optimiser.state_dict()["state"].values()]
    assert kept and all(
        torch.equal(a["momentum_buffer"], b) for a, b in zip(before["optimiser"]["state"].values(), kept, strict=True)
    )


def test_child_trains_and_parent_is_unchanged(parent: tuple[Config, Path]) -> None:
    config, path = parent
    untouched = {file: file.read_bytes() for file in path.rglob("*.pt")}
    changed = replace(config, optim=replace(config.optim, schedule="constant", lr=0.033))
    run = continue_from(changed, path, 1, "2")
    with run.begin(changed):
        fit(changed, World(), run.path)
    assert [(record["epoch"], record["lr"]) for record in history.read(run.path)] == [(2, 0.033), (3, 0.033)]
    assert {file: file.read_bytes() for file in path.rglob("*.pt")} == untouched


def test_same_child_is_the_same_run(parent: tuple[Config, Path]) -> None:
    config, path = parent
    run = continue_from(config, path, 1, "2")
    assert continue_from(config, path, 1, "2").path == run.path != path
    assert continue_from(config, path, 1, "3").path != run.path


@pytest.mark.parametrize(
    ("changes", "epoch", "said"),
    [({}, 2, "no checkpoint"), ({"no_decay": ()}, 1, "^optim.no_decay=")],
)
def test_unfit_checkpoints_are_refused(parent: tuple[Config, Path], changes: Any, epoch: int, said: str) -> None:
    config, path = parent
    with pytest.raises(ConfigError, match=said):
        continue_from(replace(config, optim=replace(config.optim, **changes)), path, epoch, "2")
