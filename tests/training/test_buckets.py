"""DDP assigns gradients to their final buckets before the first step, on CPU and GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.runs.build import build_model, build_step
from distcond.training import build_trainer


def on_rank(rank: int, world: int, config: Config) -> dict[str, Any]:
    step = build_step(config, build_model(config), torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in step.model.state_dict().items()}
    wrapped = build_trainer.wrap_ddp(step, World(rank, world))
    assert isinstance(wrapped, DistributedDataParallel)
    # DDP assigns buckets when the next forward begins, once.
    dealt = [wrapped.reducer._rebuild_buckets() for _ in range(2)]
    # On a GPU, DDP moves the arguments of each call to its device. Tests this code path without a GPU.
    wrapped.device_ids, wrapped.device_type = [0], "cpu"
    build_trainer.settle_buckets(wrapped, step)
    assert "forward" not in vars(step)
    assert all(parameter.grad is None for parameter in step.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in step.model.state_dict().items())
    return {"dealt": dealt}


def test_buckets_are_final_before_the_first_step(small: Any, run_ranks: Any) -> None:
    assert run_ranks(on_rank, 2, small("float")) == [{"dealt": [True, False]}] * 2
