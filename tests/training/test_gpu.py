"""Tests that need a GPU: NCCL, and two processes on one device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.methods.step_context import StepRandomness
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
from distcond.seeding import generator
from distcond.training.build_trainer import wrap_ddp
from distcond.training.fit import fit

pytestmark = pytest.mark.gpu


def test_nccl_world_of_one_trains_as_one_process(small: Any, tmp_path: Path) -> None:
    config, device = small("float", epochs=2), torch.device("cuda", 0)
    for name in ("alone", "nccl"):
        with RunDir(tmp_path / name).begin(config):
            if name == "nccl":
                store = f"file://{tmp_path}/store"
                dist.init_process_group("cpu:gloo,cuda:nccl", init_method=store, rank=0, world_size=1)
            try:
                fit(config, World(device=device), tmp_path / name)
            finally:
                if dist.is_initialized():
                    dist.all_reduce(torch.ones(1, device=device))
                    dist.destroy_process_group()
    one, other = (load(tmp_path / name, "last").state_dict() for name in ("alone", "nccl"))
    for name, tensor in one.items():
        assert torch.allclose(tensor.double(), other[name].double(), atol=1e-4), name


def gradients(rank: int, world: int, config: Config) -> dict[str, Tensor]:
    """The reduced gradients of one step on the first GPU."""
    device = torch.device("cuda", 0)
    step = build_step(config, build_model(config), device).train()
    x = torch.rand(8, 3, 8, 8, generator=generator("gpu")).to(device)[rank::world]
    y = torch.arange(8, device=device)[rank::world]
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, 8, generator("lam")).sort().values
    wrapped = wrap_ddp(step, World(rank, world, device))
    wrapped(x, y, StepRandomness(0, 0, 0, rank, world, lam)).loss.backward()
    return {name: parameter.grad.cpu() for name, parameter in step.named_parameters() if parameter.grad is not None}


def test_two_processes_on_one_gpu_agree(small: Any, run_ranks: Any) -> None:
    one, other = run_ranks(gradients, 2, small("float"))
    assert one
    assert all(torch.equal(grad, other[name]) for name, grad in one.items())
