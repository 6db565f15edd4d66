"""Accumulated shares of a batch are what as many ranks compute, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.config.schema import Config
from distcond.distributed.running_statistics import running_statistics
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.runs import checkpoint
from distcond.runs.checkpoint import Position
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
from distcond.training.accumulation import check_accumulation
from distcond.training.build_trainer import build_trainer
from distcond.training.epoch import train_step
from support.groups import quick


def trained_steps(rank: int, world: int, config: Config, folder: str) -> dict[str, Any]:
    """Weights, statistics by share, losses and counts of two steps of one rank."""
    trainer = build_trainer(config, World(rank, world), RunDir(Path(folder)), 0)
    trainer.enter(Position())
    trainer.model.train()
    if trainer.sparsity is not None:
        trainer.sparsity.start("train")
    outcomes = [
        train_step(trainer, b.step, b.x, b.y, 0.05) for b, _ in zip(trainer.train.epoch(0), range(2), strict=False)
    ]
    losses, tallies = (torch.stack(values) for values in zip(*outcomes, strict=True))
    state = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    return {
        "weights": {name: tensor for name, tensor in state.items() if name not in running_statistics(state)},
        "statistics": [running_statistics(state), *trainer.shares.state_dict()],
        "loss": trainer.world.sum(losses) / world,
        "tally": trainer.world.sum(tallies),
        "pooled": running_statistics(trainer.evaluated_model().state_dict()),
        "dense": trainer.sparsity.rank_state() if trainer.sparsity is not None else {},
        "spent": sum(trainer.bare_step.spent.values()) * world,
    }


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []


@pytest.mark.parametrize("method", quick("float", of=["float", "pgd_at", "oat", "smart", "float_slim"]))
def test_two_shares_equal_two_ranks_bit_for_bit(small: Any, run_ranks: Any, tmp_path: Path, method: str) -> None:
    settings = {"precision__train": "float32", "data__augment": False}
    ranks = run_ranks(trained_steps, 2, small(method, **settings), str(tmp_path))
    alone = trained_steps(0, 1, small(method, **settings, optim__accumulate=2), str(tmp_path))
    assert_equal(alone["weights"], ranks[0]["weights"])
    assert len(alone["statistics"]) == 2
    for rank, statistics in zip(ranks, alone["statistics"], strict=True):
        assert_equal(statistics, rank["statistics"][0])
    assert_equal(alone["pooled"], ranks[0]["pooled"])
    assert torch.equal(alone["loss"], ranks[0]["loss"])
    assert torch.equal(alone["tally"], ranks[0]["tally"])
    assert alone["spent"] == ranks[0]["spent"]
    for name, tensor in alone["dense"].items():
        assert torch.allclose(tensor, torch.stack([rank["dense"][name] for rank in ranks]).mean(0), atol=1e-6)


@pytest.mark.cluster
def test_two_ranks_of_two_shares_equal_four_ranks(small: Any, run_ranks: Any, tmp_path: Path) -> None:
    settings = {"precision__train": "float32", "data__augment": False}
    four = run_ranks(trained_steps, 4, small("float", **settings), str(tmp_path))
    two = run_ranks(trained_steps, 2, small("float", **settings, optim__accumulate=2), str(tmp_path))
    for name, tensor in two[0]["weights"].items():
        assert torch.allclose(tensor, four[0]["weights"][name], atol=1e-5), name
    for name, tensor in two[0]["pooled"].items():
        assert torch.allclose(tensor.float(), four[0]["pooled"][name].float(), atol=1e-5), name


def test_evaluation_pools_the_statistics_of_all_shares(small: Any, whole: Any) -> None:
    path = whole(small("float", epochs=2, optim__accumulate=2))
    last = checkpoint.latest(path / "checkpoints")
    assert last is not None
    part, network = checkpoint.load_rank_state(last, 0), load(path, "last").state_dict()
    (share,) = part["shares"]
    name = next(name for name in share if name.endswith("running_mean"))
    assert not torch.equal(share[name], part["statistics"][name])
    assert torch.allclose(network[name], (share[name] + part["statistics"][name]) / 2)


@pytest.mark.parametrize("setting", ["optim__awp_gamma", "optim__averaging", "shared_statistics"])
def test_settings_that_need_all_shares_are_refused(tiny: Any, setting: str) -> None:
    value = True if setting == "shared_statistics" else 0.5
    check_accumulation(tiny("float", **{setting: value}))
    with pytest.raises(ConfigError, match=rf"^optim.accumulate=2: not with {setting.replace('__', '.')}"):
        check_accumulation(tiny("float", optim__accumulate=2, **{setting: value}))
