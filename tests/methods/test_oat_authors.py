"""OAT and OATS against the code of their authors, where a checkout of it is at hand.

    git clone https://github.com/VITA-Group/Once-for-All-Adversarial-Training
    DISTCOND_OAT_CHECKOUT=Once-for-All-Adversarial-Training python -m pytest tests/methods/test_oat_authors.py

In float64, on the CPU: their networks with our weights, their attack with our random start.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.config.overrides import resolve
from distcond.config.schema import AttackConfig
from distcond.init_from.initialise import copy_into
from distcond.layers.encode import Codebook
from distcond.methods import oat, oats
from distcond.methods.oats import OatsOptions
from distcond.methods.step_context import StepContext, StepRandomness
from distcond.models.conditional import ConditionalModel
from distcond.models.resnet import RESNET34, ResNet
from distcond.runs.build import build_model
from distcond.seeding import generator
from support.authors_code import X, Y, their_name

CHECKOUT = os.environ.get("DISTCOND_OAT_CHECKOUT", "")
pytestmark = [
    pytest.mark.skipif(not CHECKOUT, reason="DISTCOND_OAT_CHECKOUT names no checkout of OAT's authors' code"),
    pytest.mark.cluster,
]
LAM = torch.tensor([0.0, 0.0, 0.1, 0.4, 1.0, 1.0])
ZEROS = 2


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`theirs("models.cifar10.resnet_OAT")`: a module of the checkout, on the CPU."""
    rooms = ("models", "attacks", "utils")
    monkeypatch.syspath_prepend(str(Path(CHECKOUT).absolute()))
    for kind in (Tensor, nn.Module):
        monkeypatch.setattr(kind, "cuda", lambda self, *args, **kwargs: self)
    yield import_module
    for name in [name for name in sys.modules if name.partition(".")[0] in rooms]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """We compute losses and statistics in float32 whatever the network; here everything stays in float64."""
    monkeypatch.setattr(Tensor, "float", lambda self: self)


def built(options: oat.OatOptions, method: Any, seed: int = 0) -> ConditionalModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ResNet(method.layers(options, False), 10, RESNET34.options.depths, RESNET34.options.widths)
    mults = getattr(options, "width_mults", (1.0,))
    return ConditionalModel(net, encode=method.encode(options), width_mults=mults).double()


def oat_network(theirs: Any) -> nn.Module:
    network: nn.Module = theirs("models.cifar10.resnet_OAT").ResNet34OAT(use2BN=True, FiLM_in_channels=128)
    return network


def with_our_weights(network: nn.Module, model: ConditionalModel) -> nn.Module:
    network.double().load_state_dict({their_name(name): value for name, value in model.backbone.state_dict().items()})
    return network.train()


def codes(model: ConditionalModel) -> Tensor:
    """Codes in the shape the authors' sampler gives them."""
    assert model.encode is not None
    return model.encode(LAM)[:, None]


def test_the_same_weights_give_the_same_logits(theirs: Any) -> None:
    model = built(oat.OatOptions(), oat)
    network = with_our_weights(oat_network(theirs), model)
    with torch.no_grad():
        wanted = network(X, codes(model), ZEROS)
        assert torch.allclose(model.train()(X, model.condition(LAM)), wanted, rtol=0, atol=1e-6)
        wanted = network.eval()(X, codes(model), ZEROS)
        assert torch.allclose(model.eval()(X, model.condition(LAM)), wanted, rtol=0, atol=1e-6)


def their_loss(theirs: Any, network: nn.Module, code: Tensor, attacker: Any) -> Tensor:
    """The authors' step in their order: clean pass, attack, adversarial pass."""
    on_clean = F.cross_entropy(network(X, code, ZEROS), Y, reduction="none")
    with theirs("utils.context").ctx_noparamgrad_and_eval(network):
        moved = attacker.attack(network, X[ZEROS:], labels=Y[ZEROS:], _lambda=code[ZEROS:], idx2BN=0)
    network.train()
    on_adversarial = F.cross_entropy(network(moved.detach(), code[ZEROS:], 0), Y[ZEROS:], reduction="none")
    # Their weights are in float32, as ours.
    return ((1 - LAM) * on_clean + LAM * torch.cat([torch.zeros(ZEROS), on_adversarial])).mean()


@pytest.mark.parametrize("fold", [False, True])
def test_the_same_step_gives_the_same_gradients(theirs: Any, monkeypatch: pytest.MonkeyPatch, fold: bool) -> None:
    attack = AttackConfig(epsilon=8 / 255, step_size=10 / 255 / 7, num_steps=2)
    model = built(oat.OatOptions(), oat).train()
    network = with_our_weights(oat_network(theirs), model)
    draws = StepRandomness(seed=0, epoch=0, step=0, rank=0, world=1, lam=LAM)
    outcome = oat.objective(StepContext(model, attack, draws, torch.float64 if fold else None), X, Y)
    outcome.loss.backward()
    start = torch.rand(X.shape, generator=generator(*draws.key("attack0")))[ZEROS:]
    monkeypatch.setattr(torch, "rand", lambda *size: start)
    attacker = theirs("attacks.pgd").PGD(eps=8 / 255, steps=2, alpha=attack.step_size, use_FiLM=True)
    loss = their_loss(theirs, network, codes(model), attacker)
    loss.backward()
    assert torch.allclose(outcome.loss, loss, rtol=1e-10)
    wanted, statistics = dict(network.named_parameters()), network.state_dict()
    for name, parameter in model.backbone.named_parameters():
        other = wanted[their_name(name)].grad
        assert parameter.grad is not None
        assert other is not None
        assert (parameter.grad - other).norm() <= 1e-8 * other.norm(), name
    for name, buffer in model.backbone.named_buffers():
        if "running" in name:
            assert torch.allclose(buffer, statistics[their_name(name)], rtol=1e-7, atol=1e-12), (
                name
            )  # a float32 momentum


def test_oats_gives_the_same_logits_at_every_width(theirs: Any) -> None:
    module = theirs("models.cifar10.resnet_slimmable_OAT")
    mults = tuple(module.width_mult_list)
    model = built(OatsOptions(film_slices="concatenated", width_mults=tuple(sorted(mults, reverse=True))), oats)
    network = module.SlimmableResNet34OAT(use2BN=True, FiLM_in_channels=128)
    # They list the narrowest width first, we the widest.
    ours = {re.sub(r"(?<=norms\.)\d", lambda at: str(len(mults) - 1 - int(at[0])), name): value
            for name, value in model.backbone.state_dict().items()}  # fmt: skip
    network.double().load_state_dict({their_name(name): value for name, value in ours.items()})
    assert isinstance(model.encode, Codebook)
    for mult in mults:
        network.apply(lambda part, mult=mult: setattr(part, "width_mult", mult))
        with torch.no_grad():
            wanted = network.train()(X, codes(model), ZEROS)
            found = model.train()(X, model.condition(LAM, width=model.width_index(mult)))
        assert torch.allclose(found, wanted, rtol=0, atol=1e-6)


def test_imported_checkpoint_gives_the_authors_logits(theirs: Any, tmp_path: Path) -> None:
    """Weights and codes as their trainer saves them, at every lam as their validation encodes it."""
    torch.manual_seed(4)
    network = oat_network(theirs).double()
    network.train()(X, torch.randn(len(LAM), 1, 128, dtype=torch.float64), ZEROS)  # statistics that are not the first
    codes_of = np.linalg.qr(np.random.default_rng(3).normal(size=(128, 128)))[0]
    saved = {name: value.to(torch.float32) for name, value in network.state_dict().items() if value.dim()}
    network.load_state_dict(saved, strict=False)
    torch.save(saved, tmp_path / "latest.pth")
    np.save(tmp_path / "rand_otho_mat.npy", codes_of)
    config = resolve("oat_cifar10_resnet34", {
        "init_from": str(tmp_path / "latest.pth"), "method.code_file": str(tmp_path / "rand_otho_mat.npy"),
    })  # fmt: skip
    model = build_model(config).eval()
    copy_into(model, config)
    model.double()
    assert isinstance(config.method, oat.OatOptions)
    for number, lam in enumerate(config.method.lam_choices):
        code = torch.from_numpy(codes_of[number]).to(torch.float32).double().repeat(len(X), 1, 1)
        with torch.no_grad():
            wanted = network.eval()(X, code, len(X) if lam == 0 else 0)
            found = model(X, model.condition(lam))
        assert torch.allclose(found, wanted, rtol=0, atol=1e-6), lam
