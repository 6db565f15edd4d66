"""World, its collectives, devices, precision and memory layout."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.config.schema import PrecisionConfig
from distcond.distributed.rendezvous import world_from_environment
from distcond.distributed.world import World, choose_device, wait_for_release
from distcond.errors import ConfigError
from distcond.runs.build import autocast_dtype, build_model, build_step, fast_bf16, memory_format
from distcond.training.build_trainer import wrap_ddp
from distcond.training.checkpointing import never_stop
from support.groups import quick

CPU = torch.device("cpu")


def collectives(rank: int, world: int) -> dict[str, Tensor]:
    here, mine = World(rank, world), torch.tensor([float(rank), 1.0])
    here.barrier()
    counts = here.sum(torch.tensor([rank + 2**53], dtype=torch.int64))
    return {"sum": here.sum(mine), "all": torch.stack(here.gather(mine)), "mine": mine, "counts": counts}


def test_collective_waits_for_release_of_tensors() -> None:
    tensor, held = torch.ones(3), list[Tensor]()
    with wait_for_release(tensor):
        held.append(tensor.view(3))
        threading.Timer(0.2, held.clear).start()
    assert not held


def test_wait_for_held_tensors_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distcond.distributed.world.PATIENCE", 0.1)
    tensor = torch.ones(3)
    with wait_for_release(tensor):
        kept = tensor.view(3)
    assert kept is not tensor


@pytest.mark.parametrize("world", quick(2, of=[2, 3]))
def test_sums_and_values_of_all_ranks(run_ranks: Any, world: int) -> None:
    ranks = run_ranks(collectives, world)
    for rank, found in enumerate(ranks):
        assert found["sum"].tolist() == [sum(range(world)), world]
        assert found["all"].tolist() == [[float(other), 1.0] for other in range(world)]
        assert found["mine"].tolist() == [rank, 1.0], "what was given is left alone"
        assert found["counts"].tolist() == [sum(range(world)) + world * 2**53], "integers stay exact"


def test_one_process_needs_no_group() -> None:
    alone, values = World(), torch.tensor([1.0, 2.0])
    alone.barrier()
    assert alone.first
    assert alone.sum(values) is values
    assert alone.gather(values) == [values]
    assert not World(1, 2).first


def test_missing_gpu_is_refused() -> None:
    assert choose_device("cpu") == CPU
    if torch.cuda.is_available():
        assert choose_device("auto").type == choose_device("cuda").type == "cuda"
        return
    assert choose_device("auto") == CPU
    with pytest.raises(ConfigError, match=r"^launch\.device=cuda: .*auto, cpu"):
        choose_device("cuda")


def test_one_process_without_torchruns_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with world_from_environment("cpu", 10.0, never_stop) as world:
        assert world == World()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("train", "wanted"),
    [("float32", None), ("bf16", torch.bfloat16), ("auto", torch.bfloat16 if fast_bf16(CPU) else None)],
)
def test_autocast_follows_the_setting(train: Any, wanted: torch.dtype | None) -> None:
    assert autocast_dtype(PrecisionConfig(train=train), CPU) is wanted


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [("auto", torch.channels_last), ("channels_last", torch.channels_last), ("contiguous", torch.contiguous_format)],
)
def test_memory_layout_follows_the_setting(tiny: Any, layout: Any, wanted: torch.memory_format) -> None:
    assert memory_format(PrecisionConfig(layout=layout), CPU) is wanted
    config = tiny("float", precision__layout=layout)
    model = build_model(config)
    build_step(config, model, CPU)
    assert model.backbone.units[1].conv.weight.is_contiguous(memory_format=wanted)


def test_step_is_built_from_the_config(tiny: Any) -> None:
    config = tiny("float", precision__train="bf16", precision__fold_attack=False, attack__num_steps=3)
    step = build_step(config, build_model(config), CPU)
    assert (step.autocast, step.fold_dtype, step.attack.num_steps) == (torch.bfloat16, None, 3)
    config = tiny("float", precision__train="float32")
    assert build_step(config, build_model(config), CPU).fold_dtype == torch.float32


def test_one_process_is_not_wrapped(tiny: Any) -> None:
    config = tiny("float")
    step = build_step(config, build_model(config), CPU)
    assert wrap_ddp(step, World()) is step
