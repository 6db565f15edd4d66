"""Layer densities by hand, and totals that are met exactly."""

from __future__ import annotations

import pytest

from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.runs.build import build_model
from distcond.sparsity.distribution import DISTRIBUTIONS, erk, igq, uniform, weight_budget
from distcond.sparsity.masks import layers_by_weight, num_entries


def test_budget_rounds_to_the_nearest() -> None:
    assert [weight_budget(10, density) for density in (0.01, 0.24, 0.25, 0.26, 1.0)] == [1, 2, 3, 3, 10]


def test_uniform_by_hand() -> None:
    assert uniform({"a": (10,), "b": (30,)}, 20) == {"a": 5, "b": 15}
    # 5.5 and 16.5: equal remainders, the earlier layer is rounded up.
    assert uniform({"a": (10,), "b": (30,)}, 22) == {"a": 6, "b": 16}


def test_erk_by_hand() -> None:
    # Dimensions add up to 4 + 2 + 3 + 3 = 12 and 8 + 4 + 3 + 3 = 18: 40 of 72 + 288 weights as 12 : 18.
    assert erk({"a": (4, 2, 3, 3), "b": (8, 4, 3, 3)}, 40) == {"a": 16, "b": 24}
    # A linear layer of 10 x 4 has 14; 20 : 14 of 34.
    assert erk({"a": (8, 6, 3, 3), "b": (10, 4)}, 34) == {"a": 20, "b": 14}


def test_erk_keeps_small_layers_dense() -> None:
    # 100 as 9 : 18 : 18 would be 20 : 40 : 40, but the first has 6 weights; 94 as 18 : 18.
    assert erk({"a": (6, 1, 1, 1), "b": (8, 4, 3, 3), "c": (8, 4, 3, 3)}, 100) == {"a": 6, "b": 47, "c": 47}


def test_igq_by_hand() -> None:
    # n / (F n + 1) = 10 and 5 of 20 and 20 / 3 at F = 1 / 20: 20 / 2 and (20 / 3) / (4 / 3). The whole numbers of it:
    assert igq({"a": (30,), "b": (6,)}, 17) == {"a": 12, "b": 5}  # F = 1/20: 30 / 2.5 = 12, 6 / 1.3 = 4.6
    assert igq({"a": (12,), "b": (4,)}, 9) == {"a": 6, "b": 3}  # F = 1/12: 12 / 2 = 6, 4 / (4 / 3) = 3
    assert igq({"a": (7,), "b": (5,)}, 12) == {"a": 7, "b": 5}


@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
@pytest.mark.parametrize("density", [0.01, 0.05, 0.2, 0.37, 0.9, 1.0])
def test_totals_are_exact_on_a_real_network(name: str, density: float) -> None:
    model = build_model(resolve("pgd_at_digits", {"model": "resnet20"}))
    weights = {name: layer.weight for name, layer in layers_by_weight(model).items()}
    total = weight_budget(num_entries(weights), density)
    counts = DISTRIBUTIONS[name]({name: weight.shape for name, weight in weights.items()}, total)
    assert list(counts) == list(weights)
    assert sum(counts.values()) == total
    assert all(1 <= counts[name] <= weight.numel() for name, weight in weights.items())


def test_igq_and_erk_have_their_published_flops() -> None:
    """Kept share of the multiplications of ResNet-18 on 32 x 32 images: 0.516 (IGQ), 0.508 (ERK), 0.2 (uniform)."""
    model = build_model(resolve("pgd_at_digits", {"model": "resnet18", "data": "cifar10"}))
    shapes = {name: layer.weight.shape for name, layer in layers_by_weight(model).items()}
    places = {name: _places(name) for name in shapes}
    dense = {name: shape.numel() * places[name] for name, shape in shapes.items()}
    total = weight_budget(sum(shape.numel() for shape in shapes.values()), 0.2)
    ratio = {
        name: sum(counts[layer] * places[layer] for layer in shapes) / sum(dense.values())
        for name, counts in ((name, DISTRIBUTIONS[name](shapes, total)) for name in DISTRIBUTIONS)
    }
    assert ratio["uniform"] == pytest.approx(0.2, abs=1e-4)
    assert ratio["igq"] == pytest.approx(0.516, abs=0.01)
    assert ratio["erk"] == pytest.approx(0.508, abs=0.01)


def test_a_density_that_starves_a_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match="density"):
        uniform({"a": (10,), "b": (30,)}, 1)


def _places(name: str) -> int:
    """Output positions of a layer of ResNet-18 on 32 x 32 images."""
    if "stem" in name:
        return 32 * 32
    return (32 >> (int(name.split(".")[2]) // 2)) ** 2
