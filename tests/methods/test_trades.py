"""TRADES's loss by hand, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.errors import ConfigError
from distcond.layers.condition import Condition
from distcond.methods.step_context import StepRandomness
from distcond.methods.trades import kl_divergence
from distcond.methods.train_step import TrainStep
from distcond.runs.build import build_model, build_step
from distcond.seeding import generator

N, STEPS = 6, 2
Y = torch.tensor([3, 1, 4, 1, 5, 9])
DRAWS = StepRandomness(1, 2, 3, 0, 1, torch.ones(N))
COND = Condition(torch.ones(1), True)


def images() -> Tensor:
    return torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def made(tiny: Any, **settings: Any) -> TrainStep:
    config = tiny("trades", attack__num_steps=STEPS, precision__train="float32", **settings)
    return build_step(config, build_model(config), torch.device("cpu"))


def test_divergence_by_hand() -> None:
    clean = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    adversarial = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    p = torch.tensor([1 / (1 + torch.e), torch.e / (1 + torch.e)])
    assert kl_divergence(adversarial, clean)[0].item() == pytest.approx(-0.5 * float((4 * p[0] * p[1]).log()), abs=1e-6)
    assert kl_divergence(adversarial, clean)[1].item() == pytest.approx(0, abs=1e-6)
    wanted = F.kl_div(F.log_softmax(adversarial, 1), F.softmax(clean, 1), reduction="none").sum(1)
    assert torch.allclose(kl_divergence(adversarial, clean), wanted, atol=1e-6)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("beta", [6.0, 0.5])
def test_loss_gradients_and_statistics_by_hand(tiny: Any, beta: float, fold: bool) -> None:
    step = made(tiny, method__beta=beta, precision__fold_attack=fold)
    net, fixed, x, attack = copy.deepcopy(step.model), copy.deepcopy(step.model).eval(), images(), step.attack
    target = F.softmax(fixed(x, COND), 1).detach()
    unit = 2 * torch.rand(N, 3, 8, 8, generator=generator(*DRAWS.key("attack0"))) - 1
    moved = (x + attack.epsilon * unit).clamp(0, 1)
    for _ in range(STEPS):
        leaf = moved.clone().requires_grad_()
        loss = F.kl_div(F.log_softmax(fixed(leaf, COND), 1), target, reduction="sum")
        (grad,) = torch.autograd.grad(loss, leaf)
        moved = (moved + attack.step_size * grad.sign() - x).clamp(-attack.epsilon, attack.epsilon) + x
        moved = moved.clamp(0, 1)
    clean, adversarial = net(x, COND), net(moved, COND)
    agreement = F.kl_div(F.log_softmax(adversarial, 1), F.softmax(clean, 1), reduction="batchmean")
    wanted = F.cross_entropy(clean, Y) + beta * agreement
    found, counts = step(x, Y, DRAWS)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-5)
    assert counts[[1, 3]].tolist() == [N, N]
    found.backward()
    wanted.backward()
    for mine, hand in zip(step.model.parameters(), net.parameters(), strict=True):
        assert torch.allclose(mine.grad, hand.grad, atol=1e-4)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(step.model.buffers(), net.buffers(), strict=True))


def test_an_attack_from_the_clean_image_is_refused(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"attack.random_start=false: "):
        made(tiny, attack__random_start=False)


def test_it_has_one_operating_point(tiny: Any) -> None:
    from distcond.methods.trades import METHOD

    assert METHOD.lam_grid(tiny("trades")) == (1.0,)
