"""What a network costs, against numbers by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distcond.config.overrides import resolve
from distcond.engine.build import build_model
from distcond.engine.cost import cost_at


def test_resnet18_at_32_pixels_has_the_published_flops() -> None:
    model = build_model(resolve("pgd_at_digits", {"model": "resnet18", "data": "cifar10"})).eval()
    cost = cost_at(model, 1.0, 0, 32)
    assert (cost.flops, cost.weights, cost.density) == (1_110_845_440.0, 11_164_352, 1.0)


def test_a_zero_weight_costs_nothing(tiny: Any) -> None:
    model = build_model(tiny("pgd_at")).eval()
    before = cost_at(model, 1.0, 0, 8)
    unit = model.units[0]
    with torch.no_grad():
        unit.conv.weight[0].zero_()
    after = cost_at(model, 1.0, 0, 8)
    zeros = unit.conv.weight[0].numel()
    assert before.nonzeros - after.nonzeros == zeros
    assert before.flops - after.flops == pytest.approx(2 * zeros * 8 * 8)
    assert after.dense_flops == before.flops
