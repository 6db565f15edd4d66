"""FLOAT's `loss=authors` against the code of its authors, where a checkout of it is at hand.

    git clone https://github.com/shunlinlu/FLOAT_v2
    DISTCOND_FLOAT_CHECKOUT=FLOAT_v2 python -m pytest tests/methods/test_float_authors.py

In float64, on the CPU: their network with our weights and our noise, their attack with our random start.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.config.schema import AttackConfig
from distcond.layers.condition import Condition
from distcond.methods import float as float_method
from distcond.methods.step_context import StepContext, StepRandomness
from distcond.models.conditional import ConditionalModel
from distcond.models.resnet import RESNET34, ResNet
from distcond.seeding import generator
from support.authors_code import X, Y, their_name

CHECKOUT = os.environ.get("DISTCOND_FLOAT_CHECKOUT", "")
pytestmark = [
    pytest.mark.skipif(not CHECKOUT, reason="DISTCOND_FLOAT_CHECKOUT names no checkout of FLOAT's authors' code"),
    pytest.mark.cluster,
]
CLEAN, STEPS = 3, 2
LAM = torch.tensor([0.0] * CLEAN + [1.0] * (len(X) - CLEAN))


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`theirs("attacks.pgd")`: a module of the checkout, on the CPU."""
    monkeypatch.syspath_prepend(str(Path(CHECKOUT).absolute()))
    for kind in (Tensor, nn.Module):
        monkeypatch.setattr(kind, "cuda", lambda self, *args, **kwargs: self)

    def found(name: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # they compare strings with `is`
            return import_module(name)

    yield found
    for name in [name for name in sys.modules if name.partition(".")[0] in ("models", "attacks", "utils")]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """We compute losses and statistics in float32 whatever the network; here everything stays in float64."""
    monkeypatch.setattr(Tensor, "float", lambda self: self)


def name_there(name: str) -> str:
    """Their names are those of OAT, and `alpha_w` beside the weight."""
    if name.endswith(".alpha"):
        return their_name(f"{name.removesuffix('alpha')}weight").removesuffix("weight") + "alpha_w"
    return their_name(name)


class InFloat64(ConditionalModel):
    """Noise and lam are float32 whatever the network; here they are not."""

    def draw_noise(self, *seed: object, on: str = "") -> Tensor | None:
        noise = super().draw_noise(*seed, on=on)
        return None if noise is None else noise.to(torch.float64)

    def condition(self, *args: Any, **kwargs: Any) -> Condition:
        cond = super().condition(*args, **kwargs)
        return cond._replace(lam=cond.lam.to(torch.float64))


def networks(theirs: Any) -> tuple[ConditionalModel, nn.Module]:
    options = float_method.FloatOptions()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ResNet(float_method.layers(options, False), 10, RESNET34.options.depths, RESNET34.options.widths)
    model = InFloat64(net).double().train()
    network = theirs("models.cifar10.resnet_OAT").ResNet34OAT(use2BN=True).double().train()
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    state = {name_there(name): value for name, value in model.backbone.state_dict().items()}
    network.load_state_dict({name: value.reshape(shapes[name]) for name, value in state.items()})
    return model, network


def draw_like_us(monkeypatch: pytest.MonkeyPatch, model: ConditionalModel, rows: StepRandomness) -> None:
    """Their noise and start are ours. Their layers draw in the order of ours, in the clean pass without effect, too."""
    purposes = ["unused", *(f"attack{step}" for step in range(STEPS)), "adversarial"]
    flat = torch.cat([torch.as_tensor(model.draw_noise(*rows.key("noise", purpose, 0))) for purpose in purposes])
    at = 0

    def normal(self: Tensor, mean: float, std: float) -> Tensor:
        nonlocal at
        at += self.numel()
        return self.copy_(flat[at - self.numel() : at].view_as(self) * std)

    start = torch.rand(X.shape, generator=generator(*rows.key("attack0")))[CLEAN:]
    monkeypatch.setattr(Tensor, "normal_", normal)
    monkeypatch.setattr(torch, "rand", lambda *size: start)


def their_loss(theirs: Any, network: nn.Module, attacker: Any) -> Tensor:
    """Their step in their order: clean pass over all images, attack on the second half, pass over the attacked."""
    on_clean = F.cross_entropy(network(X, 1.0, False, CLEAN), Y, reduction="none")
    with theirs("utils.context").ctx_noparamgrad_and_eval(network):
        moved = attacker.attack(network, X[CLEAN:], labels=Y[CLEAN:], idx2BN=0)
    network.train()
    on_attacked = F.cross_entropy(network(moved.detach(), 1.0, True, 0), Y[CLEAN:], reduction="none")
    return (0.5 * on_clean + 0.5 * torch.cat([torch.zeros(CLEAN), on_attacked])).mean()


def test_the_same_step_gives_the_same_gradients(theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = AttackConfig(epsilon=8 / 255, step_size=10 / 255 / 7, num_steps=STEPS)
    model, network = networks(theirs)
    rows = StepRandomness(seed=0, epoch=0, step=0, rank=0, world=1, lam=LAM)
    outcome = float_method.authors_objective(StepContext(model, attack, rows, None), X, Y)
    outcome.loss.backward()
    draw_like_us(monkeypatch, model, rows)
    attacker = theirs("attacks.pgd").PGD(eps=8 / 255, steps=STEPS, alpha=attack.step_size)
    loss = their_loss(theirs, network, attacker)
    loss.backward()
    assert torch.allclose(outcome.loss, loss, rtol=1e-10)
    wanted, statistics = dict(network.named_parameters()), network.state_dict()
    for name, parameter in model.backbone.named_parameters():
        other = wanted[name_there(name)].grad
        assert parameter.grad is not None
        assert other is not None
        assert (parameter.grad.reshape(other.shape) - other).norm() <= 1e-8 * other.norm(), name
    for name, buffer in model.backbone.named_buffers():
        if "running" in name:
            assert torch.allclose(buffer, statistics[name_there(name)], rtol=1e-7, atol=1e-12), name
