"""Bytes that a training step sends over the network: the gradients once, and nothing else."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.runs.run_dir import RunDir
from distcond.training.build_trainer import build_trainer
from distcond.training.epoch import step_randomness, train_step
from support.groups import quick


def events(profiled: Any) -> list[tuple[str, int]]:
    """Every collective of gloo, with the bytes of float32 that a rank bytes_sent."""
    found = [event for event in profiled.events() if event.name.startswith("gloo:")]
    return [(event.name, 4 * sum(math.prod(shape) for shape in event.input_shapes if shape)) for event in found]


def bytes_sent(rank: int, world: int, config: Config, folder: str) -> dict[str, Any]:
    """What one step sends: forward passes with the attack, backward pass, then 28 bytes as a reference."""
    here = World(rank, world)
    trainer = build_trainer(config, here, RunDir(Path(folder)), 0)
    batch = next(iter(trainer.train.epoch(0)))
    trainer.model.train()
    train_step(trainer, 0, batch.x, batch.y, 0.1)  # in its first step DDP broadcasts its buckets
    found: dict[str, Any] = {"bytes": 4 * sum(parameter.numel() for parameter in trainer.model.parameters())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the profiler itself
        for name in ("attack and forward", "backward", "known"):
            with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
                if name == "attack and forward":
                    outcome = trainer.step(batch.x, batch.y, step_randomness(trainer, 1))
                elif name == "backward":
                    outcome.loss.backward()
                else:
                    here.sum(torch.zeros(7))
            found[name] = events(profiled)
    return found


@pytest.mark.parametrize("method", quick("float", of=["pgd_at", "float", "oat"]))
def test_step_reduces_gradients_once_and_attack_nothing(small: Any, tmp_path: Any, run_ranks: Any, method: str) -> None:
    for found in run_ranks(bytes_sent, 2, small(method, attack__num_steps=3), str(tmp_path)):
        assert found["known"] == [("gloo:all_reduce", 28)], "the counter counts"
        assert found["attack and forward"] == []
        assert {name for name, _ in found["backward"]} == {"gloo:all_reduce"}
        assert sum(size for _, size in found["backward"]) == found["bytes"]
