"""FLOPs and weights against numbers by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from distcond.config.overrides import resolve
from distcond.layers.layer_set import plain_layers
from distcond.models.conditional import ConditionalModel
from distcond.models.flops import cost_at
from distcond.models.wide_resnet import WideResNetOptions
from distcond.registry import table
from distcond.runs.build import build_model


def test_resnet18_at_32_pixels_has_the_published_flops() -> None:
    model = build_model(resolve("pgd_at_digits", {"model": "resnet18", "data": "cifar10"})).eval()
    cost = cost_at(model, 1.0, 0, 32)
    assert (cost.flops, cost.weights, cost.density) == (1_110_845_440.0, 11_164_352, 1.0)


@pytest.mark.parametrize(
    ("model", "size", "num_classes", "wanted"),
    [
        # Multiply-accumulates of convolutions and classifier. Published: 0.56, 1.16, 0.31, 1.55, 4.09 billion.
        ("resnet18", 32, 10, 0.5554e9),
        ("preact_resnet18", 32, 10, 0.5554e9),
        ("resnet34", 32, 10, 1.1594e9),
        ("vgg16_bn", 32, 10, 0.3132e9),
        ("wrn16_8", 32, 10, 1.548e9),
        ("wrn40_2", 32, 10, 0.3276e9),
        ("wrn34_10", 32, 10, 6.659e9),
        ("resnet50", 224, 1000, 4.089e9),
    ],
)
def test_networks_cost_what_is_published(model: str, size: int, num_classes: int, wanted: float) -> None:
    cost = cost_at(unmade(model, num_classes, table("model")[model].options), 1.0, 0, size)
    assert cost.flops == cost.dense_flops == pytest.approx(2 * wanted, rel=3e-4)
    assert cost.density == 1.0


def test_wrn_28_10_costs_5_2_billion_multiplications() -> None:
    # Zagoruyko & Komodakis 2016, section 3: the network that the others are told apart from by depth and width.
    options = WideResNetOptions(depths=(4, 4, 4), widths=(160, 320, 640))
    assert cost_at(unmade("wrn34_10", 10, options), 1.0, 0, 32).flops == pytest.approx(2 * 5.25e9, rel=2e-3)


def unmade(model: str, num_classes: int, options: Any) -> ConditionalModel:
    """A network of its full size, without values."""
    with torch.device("meta"):
        return ConditionalModel(table("model")[model].build(plain_layers(), num_classes, options)).to("meta").eval()


@pytest.mark.parametrize("model", ["small_cnn", "preact_resnet18", "vgg16_bn", "resnet50"])
def test_all_multiplications_with_weights_are_counted(tiny: Any, model: str) -> None:
    network = build_model(tiny("pgd_at", model)).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 16, 16), network.condition(1.0))
    assert cost_at(network, 1.0, 0, 16).flops == counter.get_total_flops()


@pytest.mark.parametrize("model", ["small_cnn", "preact_resnet18", "vgg16_bn", "resnet50"])
def test_a_narrower_width_costs_what_it_computes(tiny: Any, model: str) -> None:
    network = build_model(tiny("float_slim", model)).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 16, 16), network.condition(1.0, width=1))
    assert cost_at(network, 1.0, 1, 16).dense_flops == counter.get_total_flops()
    assert cost_at(network, 1.0, 1, 16).flops < cost_at(network, 1.0, 0, 16).flops / 2


def test_zero_weights_cost_nothing(tiny: Any) -> None:
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
