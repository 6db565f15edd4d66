"""Attacking folded weights gives the same adversarial images and does not change the network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.methods.step_context import StepContext, StepRandomness, eval_mode
from distcond.methods.train_step import TrainStep
from distcond.runs.build import build_model, build_step

N = 16
Y = torch.arange(N) % 10


def images() -> Tensor:
    x = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def step_of(tiny: Any, method: str, model: str, precision: str = "float32") -> TrainStep:
    config = tiny(method, model, attack__num_steps=5, precision__train=precision)
    step = build_step(config, build_model(config), torch.device("cpu"))
    lam = torch.zeros(N) if method == "standard" else torch.ones(N)
    step(images(), Y, StepRandomness(0, 0, 0, 0, 1, lam))  # statistics that are not the starting ones
    return step


def adversarial(step: TrainStep, dtype: torch.dtype | None, lam: float = 1.0) -> Tensor:
    passes = StepContext(step.model, step.attack, StepRandomness(0, 0, 1, 0, 1, torch.full((N,), lam)), dtype)
    return passes.make_adversarial(images(), Y, passes.randomness.all_rows())


@pytest.mark.parametrize(
    ("model", "method"),
    [
        *(("small_cnn", method) for method in ("float", "pgd_at", "oat", "smart")),
        *((model, "float") for model in ("resnet18", "preact_resnet18", "vgg16_bn", "resnet50")),
    ],
)
def test_folded_and_unfolded_attacks_give_the_same_images(tiny: Any, method: str, model: str) -> None:
    step = step_of(tiny, method, model)
    folded, unfolded = adversarial(step, torch.float32), adversarial(step, None)
    assert ((folded - unfolded).abs() < 1e-6).float().mean() >= 0.999
    assert ((folded - images()).abs() > 1e-3).float().mean() > 0.5


@pytest.mark.parametrize("dtype", [torch.float32, None])
@pytest.mark.parametrize("method", ["float", "pgd_at"])
def test_an_attack_changes_nothing_about_the_network(tiny: Any, method: str, dtype: torch.dtype | None) -> None:
    step = step_of(tiny, method, "small_cnn")
    before = copy.deepcopy(step.model.state_dict())
    adversarial(step, dtype)
    assert all(torch.equal(before[name], tensor) for name, tensor in step.model.state_dict().items())
    assert all(parameter.grad is None for parameter in step.model.parameters())
    assert all(module.training for module in step.model.modules())


def test_attacks_use_the_lam_of_the_rows(tiny: Any) -> None:
    step = step_of(tiny, "float", "small_cnn")
    assert not torch.equal(adversarial(step, torch.float32, 1.0), adversarial(step, torch.float32, 0.2))


def test_bfloat16_attacks_stay_within_epsilon_equally_strong(tiny: Any) -> None:
    step = step_of(tiny, "float", "small_cnn")
    with torch.autocast("cpu", torch.bfloat16):
        reduced = adversarial(step, torch.bfloat16)
    assert reduced.dtype == torch.float32
    assert ((reduced - images()).abs() <= step.attack.epsilon + 1e-6).all()
    model = step.model.eval()
    cond = model.condition(1.0, noise=model.draw_noise(3))
    clean, strong, found = (
        F.cross_entropy(model(x, cond), Y).item() for x in (images(), adversarial(step, None), reduced)
    )
    assert found - clean > 0.9 * (strong - clean) > 0.002


def test_modes_are_restored_after_errors() -> None:
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Dropout())
    net[1].eval()
    with eval_mode(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == [True, True, False]
    with pytest.raises(IndexError), eval_mode(net):
        net[2]
    assert [module.training for module in net.modules()] == [True, True, False]
