"""PGD-AT's loss by hand at lam 0, 0.5 and 1."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.attacks.pgd import pgd
from distcond.errors import ConfigError
from distcond.layers.condition import Condition
from distcond.layers.plain import BatchNorm2d
from distcond.methods.step_context import StepRandomness
from distcond.methods.train_step import TrainStep
from distcond.runs.build import build_model, build_step

N, STEPS = 6, 3
Y = torch.tensor([3, 1, 4, 1, 5, 9])


def images() -> Tensor:
    x = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def at(lam: float) -> StepRandomness:
    return StepRandomness(1, 2, 3, 0, 1, torch.full((N,), lam))


def made(tiny: Any, lam: float, fold: bool = False) -> TrainStep:
    config = tiny(
        "pgd_at", attack__num_steps=STEPS, precision__train="float32", precision__fold_attack=fold, sampler__lam=lam
    )
    return build_step(config, build_model(config), torch.device("cpu"))


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.25, 1.0])
def test_the_loss_and_the_statistics_by_hand(tiny: Any, lam: float) -> None:
    step, cond = made(tiny, lam), Condition(torch.tensor([lam]), lam > 0)
    net, fixed = copy.deepcopy(step.model), copy.deepcopy(step.model).eval()
    unit = at(lam).uniform(at(lam).all_rows(), images(), "attack0")
    moved = pgd(lambda x, number: fixed(x, cond), images(), Y, step.attack, unit)
    wanted = torch.zeros(())
    if lam > 0:  # the adversarial forward comes first, and so does its update of the statistics
        wanted = wanted + lam * F.cross_entropy(net(moved, cond), Y)
    if lam < 1:
        wanted = wanted + (1 - lam) * F.cross_entropy(net(images(), cond), Y)
    loss, counts = step(images(), Y, at(lam))
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-6)
    assert counts[[1, 3]].tolist() == [N * (lam < 1), N * (lam > 0)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(step.model.buffers(), net.buffers(), strict=True))
    loss.backward()
    wanted.backward()
    for found, hand in zip(step.model.parameters(), net.parameters(), strict=True):
        assert torch.allclose(found.grad, hand.grad, atol=1e-6)


@pytest.mark.parametrize(("lam", "forwards"), [(0.0, 1), (0.5, STEPS + 2), (1.0, STEPS + 1)])
@pytest.mark.parametrize("fold", [True, False])
def test_a_pass_of_weight_zero_is_not_run(tiny: Any, lam: float, forwards: int, fold: bool) -> None:
    step, modes = made(tiny, lam, fold), []
    step.model.register_forward_pre_hook(lambda module, arguments: modes.append(module.training))
    step(images(), Y, at(lam))
    assert modes == [False] * (STEPS if lam else 0) + [True] * (forwards - (STEPS if lam else 0))
    tracked = {int(m.num_batches_tracked) for m in step.model.modules() if isinstance(m, BatchNorm2d)}
    assert tracked == {2 if 0 < lam < 1 else 1}
    assert all(module.training for module in step.modules())


def test_evaluates_at_the_lam_of_training(tiny: Any) -> None:
    from distcond.methods.pgd_at import METHOD

    assert METHOD.lam_grid(tiny("pgd_at", sampler__lam=0.25)) == (0.25,)
    with pytest.raises(ConfigError, match=r"sampler=two_point: .*sampler=fixed"):
        build_model(tiny("pgd_at", sampler="two_point"))
