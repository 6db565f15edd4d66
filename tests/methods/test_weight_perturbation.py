"""Adversarial weight perturbation: v by hand, restored weights, no side effects, one attack, agreeing ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.layers.masked import MaskedConv2d
from distcond.methods.step_context import StepRandomness
from distcond.methods.train_step import TrainStep
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step
from distcond.training.build_trainer import wrap_ddp

K, N = 3, 8
Y = torch.arange(N) % 10


def images(size: int = 8) -> Tensor:
    return torch.rand(N, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def config(tiny: Any) -> Callable[..., Config]:
    def made(method: str = "pgd_at", gamma: float = 0.1, **settings: Any) -> Config:
        fast = {"attack__num_steps": K, "precision__train": "float32", "eval__lam_grid": "0,1"}
        found: Config = tiny(method, **fast | settings, optim__awp_gamma=gamma)
        return found

    return made


def made(config: Config) -> TrainStep:
    step = build_step(config, build_model(config), torch.device("cpu"))
    sparsity = lookup("method", config.method.name).sparsity(config, step.model)
    if sparsity is not None:
        sparsity.start("train")
    return step.train()


def draws(config: Config, rank: int = 0, world: int = 1) -> StepRandomness:
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, N, torch.Generator().manual_seed(0))
    return StepRandomness(0, 0, 0, rank, world, lam.sort().values)


def test_gradients_are_those_of_nearby_worst_weights(config: Any) -> None:
    chosen = config(attack__num_steps=0, attack__epsilon=0.0)  # nothing moves the images: the loss is known
    step, x = made(chosen), images()
    by_hand = made(chosen)
    model = by_hand.model
    cond = model.condition(1.0)
    F.cross_entropy(model(x, cond), Y).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                assert parameter.grad is not None
                parameter.add_(0.1 * parameter.norm() * parameter.grad / parameter.grad.norm())
    model.zero_grad()
    F.cross_entropy(model(x, cond), Y).backward()
    step(x, Y, draws(chosen)).loss.backward()
    for (name, ours), wanted in zip(step.named_parameters(), by_hand.parameters(), strict=True):
        assert ours.grad is not None and wanted.grad is not None
        assert torch.allclose(ours.grad, wanted.grad, atol=1e-6), name
        assert torch.allclose(ours, wanted, atol=1e-7), name  # both still perturbed


@pytest.mark.parametrize("method", ["pgd_at", "float", "smart", "flying_bird"])
def test_weights_are_restored_and_statistics_updated_once(config: Any, method: str) -> None:
    chosen, plain = config(method), config(method, gamma=0.0)
    step, other = made(chosen), made(plain)
    before = {name: tensor.clone() for name, tensor in step.named_parameters()}
    step(images(), Y, draws(chosen)).loss.backward()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in step.named_parameters())
    assert all((tensor[before[name] == 0] == 0).all() for name, tensor in step.named_parameters() if tensor.dim() > 1)
    step.after_backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in step.named_parameters())
    other(images(), Y, draws(plain)).loss.backward()
    tracked = [dict(s.named_buffers()) for s in (step, other)]
    names = [name for name in tracked[0] if name.endswith("num_batches_tracked")]
    assert names
    assert all(torch.equal(tracked[0][name], tracked[1][name]) for name in names)


def test_growth_ignores_gradients_of_the_perturbation(config: Any) -> None:
    steps = [made(config("smart", gamma=gamma)) for gamma in (0.0, 1e-9)]
    sums = []
    for step, gamma in zip(steps, (0.0, 1e-9), strict=True):
        step(images(), Y, draws(config("smart", gamma=gamma))).loss.backward()
        layers = [module for module in step.modules() if isinstance(module, MaskedConv2d)]
        sums.append(torch.cat([total.flatten() for layer in layers for total in layer.dense_gradients.values()]))
    assert sums[0].abs().sum() > 0
    assert torch.allclose(sums[0], sums[1], atol=1e-6)  # twice as large, were the first pass counted


@pytest.mark.parametrize(("method", "floor"), [("pgd_at", 2 * 7 + 6.0), ("trades", 2 * 7 + 13.0), ("float", 7 + 6.0)])
def test_the_images_are_attacked_once(method: str, floor: float) -> None:
    settings = {"method": method, "model": "resnet20", "eval.lam_grid": "0,1", "attack.num_steps": 7}
    config = resolve("float_digits", settings | {"optim.awp_gamma": 0.01, "precision.train": "float32"})
    step, x = made(config), images(16)
    model = step.model
    forward = flops(lambda: model.eval()(x, model.condition(1.0)))
    model.train()
    spent = flops(lambda: step(x, Y, draws(config)).loss.backward()) / forward
    assert spent == pytest.approx(floor, rel=0.005)
    assert step.spent[0] / N == floor


def flops(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def on_rank(rank: int, world: int, config: Config) -> list[Tensor]:
    step = made(config)
    mine = slice(rank, None, world)
    wrapped = wrap_ddp(step, World(rank, world))  # the reducer lives as long as this
    wrapped(images()[mine], Y[mine], draws(config, rank, world)).loss.backward()
    return [tensor for p in step.parameters() for tensor in (p.detach(), p.grad) if tensor is not None]


@pytest.mark.parametrize("method", ["pgd_at", "float", "oat"])
def test_two_ranks_share_one_perturbation(config: Any, run_ranks: Any, method: str) -> None:
    chosen = config(method, shared_statistics=True)
    alone, (one, other) = on_rank(0, 1, chosen), run_ranks(on_rank, 2, chosen)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(alone, one, strict=True))


def test_reduced_precision_uses_the_perturbed_weights(config: Any) -> None:
    # Autocast keeps a copy of every weight it has cast: an old one must not serve after the perturbation.
    found = []
    for gamma in (0.0, 0.5):
        chosen = config(gamma=gamma, precision__train="bf16", attack__num_steps=0)
        found.append(float(made(chosen)(images(), Y, draws(chosen)).loss.detach()))
    assert found[1] > found[0] + 0.1
