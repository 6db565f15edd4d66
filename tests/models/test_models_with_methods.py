"""Every method trains every network: a finite step, masks on the right weights, ranks that sum to one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.layers.folding import NormUnit
from distcond.methods.step_context import StepRandomness
from distcond.methods.train_step import TrainStep
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step
from distcond.training.build_trainer import stages_of, wrap_ddp
from support.groups import quick, trained

N = 8
Y = torch.arange(N) % 10
#: Every family but the small network, which the tests of the methods use.
NETWORKS = ("resnet18", "preact_resnet18", "wrn16_8", "vgg16_bn", "resnet50")
#: Every method on one network, and one method on every network.
FEW = {*((method, "preact_resnet18") for method in trained()), *(("float", model) for model in NETWORKS)}
SPARSE = ("floats", "smart", "robust_bird", "flying_bird", "flying_bird_plus")


def images() -> Tensor:
    x = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


@pytest.fixture
def config(tiny: Any) -> Callable[..., Config]:
    def made(method: str, model: str, **settings: Any) -> Config:
        fast = {"attack__num_steps": 2, "precision__train": "float32", "eval__lam_grid": "0,1", "eval__every": 1}
        found: Config = tiny(method, model, **fast | settings)
        return found

    return made


def draws_of(config: Config, rank: int = 0, world: int = 1) -> StepRandomness:
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, N, torch.Generator().manual_seed(0))
    return StepRandomness(0, 0, 0, rank, world, lam.sort().values)


def step_of(config: Config) -> tuple[TrainStep, Any]:
    """The step of a config's last stage and its masks, in place."""
    model = build_model(config)
    step, method = build_step(config, model, torch.device("cpu")), lookup("method", config.method.name)
    stages, sparsity = stages_of(config, method), method.sparsity(config, model)
    for stage in stages:
        if sparsity is not None:
            sparsity.start(stage.name)
    step.objective = stages[-1].objective
    return step, sparsity


@pytest.mark.parametrize(("method", "model"), quick(*FEW, of=itertools.product(trained(), NETWORKS)))
def test_steps_are_finite_and_reach_every_parameter(config: Any, method: str, model: str) -> None:
    chosen = config(method, model)
    step, _ = step_of(chosen)
    loss, counts = step(images(), Y, draws_of(chosen))
    loss.backward()
    assert loss.isfinite()
    assert counts[1] + counts[3] >= N
    grads = {name: parameter.grad for name, parameter in step.named_parameters()}
    assert [name for name, grad in grads.items() if grad is None or not grad.isfinite().all()] == []


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("method", SPARSE)
def test_all_convolutions_are_masked_at_the_density(config: Any, method: str, model: str) -> None:
    step, sparsity = step_of(config(method, model, method__density=0.5))
    convolutions = {unit.conv.weight for unit in step.model.units if not isinstance(unit, NormUnit)}
    held = getattr(sparsity, "masked", None) or sparsity.dual
    heads = {module.weight for module in step.modules() if isinstance(module, nn.Linear)}
    assert set(held.weights.values()) == convolutions | (heads if "bird" in method else set())
    assert sparsity.report()["density"] == pytest.approx(0.5, abs=0.02)


def on_rank(rank: int, world: int, config: Config) -> dict[str, Any]:
    """One step of one rank: its share of the loss, its reduced gradients and its running statistics."""
    step, _ = step_of(config)
    mine = slice(rank, None, world)
    wrapped = wrap_ddp(step, World(rank, world))
    loss, _ = wrapped(images()[mine], Y[mine], draws_of(config, rank, world))
    loss.backward()
    grads = {name.removeprefix("module."): part.grad for name, part in wrapped.named_parameters()}
    buffers = {name: tensor for name, tensor in step.named_buffers() if tensor.is_floating_point()}
    return {"loss": loss.detach(), "grads": grads, "buffers": buffers}


@pytest.mark.parametrize("method", ["oat", "float"])
def test_two_ranks_sharing_statistics_equal_one_rank(config: Any, run_ranks: Any, method: str) -> None:
    chosen = config(method, "preact_resnet18", shared_statistics=True)
    alone, ranks = on_rank(0, 1, chosen), run_ranks(on_rank, 2, chosen)
    assert torch.allclose(sum(found["loss"] for found in ranks) / 2, alone["loss"], atol=1e-5)
    for found in ranks:
        for kind in ("grads", "buffers"):
            for name, wanted in alone[kind].items():
                assert torch.allclose(found[kind][name], wanted, atol=2e-5), name
