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
from distcond.runs.attempts import epochs_done, set_epoch_limit
from distcond.runs.checkpoint import load_shared
from distcond.runs.run_dir import RunDir
from distcond.training.build_trainer import build_trainer
from distcond.training.checkpointing import resume_training
from distcond.training.continue_from import continue_from
from distcond.training.fit import fit


@pytest.fixture(scope="module")
def paused(
    tiny: Callable[..., Config], digits_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, Path]:
    """A run of three epochs that was paused after one."""
    path = tmp_path_factory.mktemp("donor") / "donor"
    config = tiny(
        epochs=3, train_examples=64, batch_size=32, attack__num_steps=1, eval__val_examples=16, eval__val_steps=1,
        eval__test_examples=16, eval__attack__num_steps=1, eval__train_examples=0, eval__every=1, eval__sentinel="off",
        data__loader="memory", data__cache_dir=str(digits_cache),
    )  # fmt: skip
    with RunDir(path).begin(config):
        set_epoch_limit(path, 1)
        assert fit(config, World(), path) is False
    return config, path


@pytest.fixture
def donor(paused: tuple[Config, Path], tmp_path: Path) -> tuple[Config, Path]:
    """A copy of the paused run, and the config with its root."""
    shutil.copytree(paused[1], tmp_path / "donor")
    return replace(paused[0], run_root=str(tmp_path)), tmp_path / "donor"


def test_segment_ends_with_a_checkpoint_and_resumes(donor: tuple[Config, Path]) -> None:
    config, path = donor
    assert epochs_done(path) == 1
    set_epoch_limit(path, 0)
    assert fit(config, World(), path) is True
    assert [record["epoch"] for record in history.read(path)] == [1, 2, 3]


def test_child_has_parents_weights_and_new_settings(
    donor: tuple[Config, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = donor
    changed = replace(config, optim=replace(config.optim, lr=0.033, weight_decay=0.0077, momentum=0.5))
    on_disk, sync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: on_disk.add(os.fstat(file).st_ino) or sync(file))
    run = continue_from(changed, path, 1, "2")
    assert {file.stat().st_ino for file in run.checkpoints.glob("*/*.pt")} <= on_disk
    before = load_shared(path / "checkpoints" / "epoch-0001")
    with run.begin(changed):
        job = build_trainer(changed, World(), run, 0)
        assert resume_training(job)
    assert job.position.done == 1 and job.best is None
    state = job.model.state_dict()
    assert all(torch.equal(tensor, before["model"][name]) for name, tensor in state.items())
    assert [group["weight_decay"] for group in job.optimiser.param_groups] == [0.0077, 0.0]
    assert {group["momentum"] for group in job.optimiser.param_groups} == {0.5}
    kept = [entry["momentum_buffer"] for entry in job.optimiser.state_dict()["state"].values()]
    assert kept and all(
        torch.equal(a["momentum_buffer"], b) for a, b in zip(before["optimiser"]["state"].values(), kept, strict=True)
    )


def test_child_trains_and_parent_is_unchanged(donor: tuple[Config, Path]) -> None:
    config, path = donor
    untouched = {file: file.read_bytes() for file in path.rglob("*.pt")}
    changed = replace(config, optim=replace(config.optim, schedule="constant", lr=0.033))
    run = continue_from(changed, path, 1, "2")
    with run.begin(changed):
        fit(changed, World(), run.path)
    assert [(record["epoch"], record["lr"]) for record in history.read(run.path)] == [(2, 0.033), (3, 0.033)]
    assert {file: file.read_bytes() for file in path.rglob("*.pt")} == untouched


def test_same_child_is_the_same_run(donor: tuple[Config, Path]) -> None:
    config, path = donor
    run = continue_from(config, path, 1, "2")
    assert continue_from(config, path, 1, "2").path == run.path != path
    assert continue_from(config, path, 1, "3").path != run.path


@pytest.mark.parametrize(
    ("changes", "epoch", "said"),
    [({}, 2, "no checkpoint"), ({"no_decay": ()}, 1, "^optim.no_decay=")],
)
def test_unfit_checkpoints_are_refused(donor: tuple[Config, Path], changes: Any, epoch: int, said: str) -> None:
    config, path = donor
    with pytest.raises(ConfigError, match=said):
        continue_from(replace(config, optim=replace(config.optim, **changes)), path, epoch, "2")
