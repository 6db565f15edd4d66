"""Runs that are trained epoch by epoch, and held between epochs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.errors import StopRequested
from distcond.runs.checkpoint import checkpoint_steps, load_shared
from distcond.runs.run_dir import RunDir
from distcond.training.fit import begin_training, fit


@pytest.fixture
def config(tiny: Callable[..., Config], digits_cache: Path) -> Config:
    return tiny(
        epochs=2, train_examples=64, batch_size=32, attack__num_steps=1, eval__val_examples=16, eval__val_steps=1,
        eval__test_examples=16, eval__attack__num_steps=1, eval__train_examples=0, eval__every=1, eval__sentinel="off",
        data__loader="memory", data__cache_dir=str(digits_cache),
    )  # fmt: skip


def test_epochs_one_by_one_equal_a_run(config: Config, tmp_path: Path) -> None:
    steps, run = RunDir(tmp_path / "steps"), RunDir(tmp_path / "run")
    with steps.begin(config), begin_training(config, World(), steps.path, 0) as training:
        done = []
        for epoch in training.epochs():
            done.append((epoch, steps.finished))
            training.save()
    with run.begin(config):
        assert fit(config, World(), run.path)
    assert done == [(1, False), (2, True)]
    weights = [load_shared(one.checkpoints / "epoch-0002")["model"] for one in (steps, run)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_held_run_waits_until_it_is_stopped(config: Config, tmp_path: Path) -> None:
    asked: list[int] = []

    def hold(done: int) -> bool:
        asked.append(done)
        return done == 1

    def stop() -> bool:
        return len(asked) > 3

    run = RunDir(tmp_path)
    with run.begin(config), begin_training(config, World(), tmp_path, 0, stop) as held, pytest.raises(StopRequested):
        list(held.epochs(hold))
    assert asked == [0, 1, 1, 1]
    assert [step.epoch for step in checkpoint_steps(tmp_path / "checkpoints")][-1] == 1
