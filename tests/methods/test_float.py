"""FLOAT's step: its loss by hand, and which normalisation sees which rows in which pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.config.schema import AttackConfig
from distcond.layers.condition import Condition
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.methods.step_context import StepRandomness
from distcond.methods.train_step import TrainStep
from distcond.runs.build import build_model, build_step
from distcond.seeding import generator

CPU = torch.device("cpu")
N, STEPS = 8, 3
Y = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])


def images() -> Tensor:
    x = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def half() -> StepRandomness:
    return StepRandomness(1, 2, 3, 0, 1, torch.tensor([0.0] * 4 + [1.0] * 4))


@pytest.fixture
def step(tiny: Any) -> Callable[..., TrainStep]:
    def made(fold: bool = False, **settings: Any) -> TrainStep:
        config = tiny(
            "float", attack__num_steps=STEPS, precision__train="float32", precision__fold_attack=fold, **settings
        )
        return build_step(config, build_model(config), CPU)

    return made


def noise(step: TrainStep, purpose: str) -> Tensor | None:
    return step.model.draw_noise(*half().key("noise", purpose, 0))


def attacked(step: TrainStep, x: Tensor, y: Tensor) -> Tensor:
    """The attack by hand: eval mode, lam = 1, adversarial statistics, fresh noise at every step."""
    net, attack = copy.deepcopy(step.model).eval(), step.attack
    whole = 2 * torch.rand(N, 3, 8, 8, generator=generator(*half().key("attack0"))) - 1
    moved = (x + attack.epsilon * whole[4:]).clamp(0, 1)
    for number in range(STEPS):
        leaf = moved.clone().requires_grad_()
        cond = Condition(torch.ones(1), True, noise=noise(step, f"attack{number}"))
        (grad,) = torch.autograd.grad(F.cross_entropy(net(leaf, cond), y, reduction="sum"), leaf)
        moved = (moved + attack.step_size * grad.sign() - x).clamp(-attack.epsilon, attack.epsilon) + x
        moved = moved.clamp(0, 1)
    return moved


def test_loss_is_half_clean_and_half_attacked(step: Any) -> None:
    one = step()
    net, x = copy.deepcopy(one.model), images()
    moved = attacked(one, x[4:], Y[4:])
    clean = F.cross_entropy(net(x[:4], Condition(torch.zeros(1), False)), Y[:4])
    adv = F.cross_entropy(net(moved, Condition(torch.ones(1), True, noise=noise(one, "adversarial"))), Y[4:])
    loss, counts = one(x, Y, half())
    assert loss.item() == pytest.approx((0.5 * clean + 0.5 * adv).item(), abs=1e-6)
    assert counts[[1, 3]].tolist() == [4, 4]
    loss.backward()
    (0.5 * clean + 0.5 * adv).backward()
    for (name, found), wanted in zip(one.model.named_parameters(), net.parameters(), strict=True):
        assert torch.allclose(found.grad, wanted.grad, atol=1e-6), name
    assert all(torch.allclose(a, b) for a, b in zip(one.model.buffers(), net.buffers(), strict=True))


def test_counts_are_of_correct_rows(step: Any) -> None:
    one, x = step(), images()
    one.attack = AttackConfig(num_steps=0, random_start=False)
    fresh = copy.deepcopy(one.model)
    clean = fresh(x[:4], Condition(torch.zeros(1), False)).argmax(1)
    adv = fresh(x[4:], Condition(torch.ones(1), True, noise=noise(one, "adversarial"))).argmax(1)
    labels = torch.cat([clean, adv])
    labels[[0, 5, 6]] = (labels[[0, 5, 6]] + 1) % 10
    assert one(x, labels, half()).tally.tolist() == [3, 4, 2, 4]


class Watch:
    """Which passes each dual normalisation saw: (train mode, route, rows)."""

    def __init__(self, step: TrainStep) -> None:
        self.seen: dict[str, list[tuple[bool, Any, int]]] = {}
        for name, module in step.model.named_modules():
            if isinstance(module, DualBatchNorm2d):
                module.register_forward_pre_hook(self._record(name))

    def _record(self, name: str) -> Callable[..., None]:
        def hook(module: DualBatchNorm2d, arguments: tuple[Tensor, Condition]) -> None:
            x, cond = arguments
            self.seen.setdefault(name, []).append((module.training, cond.route, len(x)))

        return hook


@pytest.mark.parametrize("fold", [True, False])
def test_each_kind_of_row_uses_its_statistics(step: Any, fold: bool) -> None:
    one = step(fold)
    watch = Watch(one)
    one(images(), Y, half())
    attack = [] if fold else [(False, True, 4)] * STEPS
    assert len(watch.seen) == 4
    assert all(seen == [(True, False, 4), *attack, (True, True, 4)] for seen in watch.seen.values())
    assert all(module.training for module in one.modules())


@pytest.mark.parametrize("fold", [True, False])
def test_attack_steps_never_move_the_statistics(step: Any, fold: bool) -> None:
    one = step(fold)
    one(images(), Y, half())
    norms = [module for module in one.model.modules() if isinstance(module, DualBatchNorm2d)]
    for norm in norms:
        assert int(norm.clean.num_batches_tracked) == int(norm.adv.num_batches_tracked) == 1
    # The first convolution by hand: one update of each branch, by its own images.
    conv, norm = one.model.backbone.units[0].conv, norms[0]
    before = step(fold).model.backbone.units[0].norm
    x, moved = images(), attacked(step(fold), images()[4:], Y[4:])
    for branch, start, rows, purpose in (
        (norm.clean, before.clean, x[:4], None),
        (norm.adv, before.adv, moved, "adversarial"),
    ):
        drawn = noise(one, purpose) if purpose else None
        seen = conv((rows - one.model.mean) / one.model.std, Condition(torch.ones(1), True, noise=drawn))
        wanted = 0.9 * start.running_mean + 0.1 * seen.mean((0, 2, 3))
        assert torch.allclose(branch.running_mean, wanted, atol=1e-5)
        wanted = 0.9 * start.running_var + 0.1 * seen.transpose(0, 1).flatten(1).var(1)
        assert torch.allclose(branch.running_var, wanted, atol=1e-5)


def test_noise_is_none_at_zero_fresh_at_one(step: Any) -> None:
    one, drawn = step(), []
    original = one.model.draw_noise
    one.model.draw_noise = lambda *seed: drawn.append(seed) or original(*seed)
    one(images(), Y, half())
    assert [seed[2] for seed in drawn] == ["attack0", "attack1", "attack2", "adversarial"]
    assert len(set(drawn)) == 4


@pytest.mark.parametrize(("lam", "rows"), [(0.0, [8, 0]), (1.0, [0, 8]), (0.5, [0, 8])])
def test_a_batch_of_one_kind_is_one_pass(step: Any, lam: float, rows: list[int]) -> None:
    one = step()
    loss, counts = one(images(), Y, StepRandomness(0, 0, 0, 0, 1, torch.full((8,), lam)))
    assert loss.isfinite()
    assert counts[[1, 3]].tolist() == rows
