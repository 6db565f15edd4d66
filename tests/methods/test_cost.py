"""The counted cost of a step: forward equivalents per image, against the sum of each method's passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from distcond.config.overrides import resolve
from distcond.methods.step_context import StepRandomness
from distcond.methods.train_step import TrainStep
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step

K, N = 3, 6


def step_of(method: str, fold: bool, model: str = "resnet20") -> TrainStep:
    config = resolve(
        "float_digits",
        {
            "method": method,
            "model": model,
            "eval.lam_grid": "0,1",
            "attack.num_steps": K,
            "precision.train": "float32",
            "precision.fold_attack": fold,
        },
    )
    return build_step(config, build_model(config), torch.device("cpu"))


def draws_of(method: str) -> StepRandomness:
    options = lookup("method", method).sampler
    lam = lookup("sampler", options.name).draw(options, N, torch.Generator().manual_seed(0))
    return StepRandomness(0, 0, 0, 0, 1, lam.sort().values)


def flops(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def images() -> Tensor:
    return torch.rand(N, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def cost(step: TrainStep, draws: StepRandomness) -> float:
    """Forward-equivalents per image of a step with its backward, on convolutions and products of matrices."""
    model, x, y = step.model, images(), torch.arange(N)
    model.eval()
    forward = flops(lambda: model(x, model.condition(1.0)))
    model.train()
    return flops(lambda: step(x, y, draws).loss.backward()) / forward


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize(
    ("method", "floor"),
    [
        ("standard", 3.0),
        ("pgd_at", 2 * K + 3.0),
        ("float", K + 3.0),
        ("trades", 2 * K + 7.0),
        # A clean pass over all rows; attack and adversarial pass over those with lam > 0, five of six.
        ("oat", 3 + (2 * K + 3) * 5 / 6),
    ],
)
def test_a_step_costs_what_its_passes_cost(method: str, floor: float, fold: bool) -> None:
    # The last backward does not reach the image, so a step costs a little less than its floor.
    assert cost(step_of(method, fold), draws_of(method)) == pytest.approx(floor, rel=0.005)


def test_lam_zero_costs_no_attack() -> None:
    draws = StepRandomness(0, 0, 0, 0, 1, torch.zeros(N))
    assert cost(step_of("pgd_at", True), draws) == pytest.approx(3.0, rel=0.005)
    assert cost(step_of("float", True), draws) == pytest.approx(3.0, rel=0.005)


def test_counted_flops_equal_the_networks() -> None:
    # 40.5 million multiplications of ResNet-20 at 32 pixels (He et al. 2016), two FLOPs each, and the shortcuts'.
    model = step_of("pgd_at", True).model.eval()
    assert flops(lambda: model(images(), model.condition(1.0))) / N == pytest.approx(2 * 40.8e6, rel=0.01)
