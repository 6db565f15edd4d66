"""Recipes have the published settings of the papers' experiments."""

from __future__ import annotations

import pytest

from distcond.config.overrides import resolve
from distcond.registry import table

CHOICES = (0.0, 0.1, 0.2, 0.3, 0.4, 1.0)
BENCHMARKS = {
    "oat": {"cifar10_resnet34", "svhn_wrn16_8", "stl10_wrn40_2"},
    "float": {
        *("cifar10_resnet34", "cifar100_resnet34", "svhn_wrn16_8", "stl10_wrn40_2", "tiny_imagenet_resnet34"),
    },
    "smart": {"cifar10_resnet34", "cifar100_resnet34", "stl10_wrn40_2"},
    "birds": {
        *("cifar10_preact_resnet18", "cifar100_preact_resnet18", "tiny_imagenet_preact_resnet18"),
        *("cifar10_vgg16_bn", "cifar10_wrn34_10"),
    },
}
METHODS = {
    "oat": ("oat", "oats", "pgd_at"),
    "float": ("float", "float_slim", "floats"),
    "smart": ("smart",),
    "birds": ("pgd_at", "robust_bird", "flying_bird", "flying_bird_plus"),
}


@pytest.mark.parametrize("family", METHODS)
def test_every_experiment_of_the_papers_has_a_recipe(family: str) -> None:
    wanted = {f"{method}_{where}" for method in METHODS[family] for where in BENCHMARKS[family]}
    assert wanted <= set(table("recipe"))


@pytest.mark.parametrize("where", sorted(BENCHMARKS["float"] | BENCHMARKS["oat"]))
@pytest.mark.parametrize("method", ["float", "oat", "oats", "float_slim", "floats", "smart"])
def test_once_for_all_papers_share_settings(method: str, where: str) -> None:
    name = f"{method}_{where}"
    if name not in table("recipe"):
        assert where not in BENCHMARKS[{"oats": "oat", "smart": "smart", "oat": "oat"}.get(method, "float")]
        return
    config = resolve(name, {})
    assert f"{config.data.name}_{config.model.name}" == where
    assert (config.epochs, config.batch_size) == (200, 128)
    assert config.attack.epsilon == pytest.approx(8 / 255)
    assert config.attack.step_size == pytest.approx(10 / 255 / 7)
    assert config.attack.num_steps == 7
    assert (config.data.mean, config.data.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # raw pixels, as the authors' code
    optim = config.optim
    assert (optim.momentum, optim.weight_decay, optim.schedule) == (0.9, 5e-4, "cosine")
    assert optim.lr == (0.01 if config.data.name == "svhn" else 0.1)
    assert getattr(config.model, "dropout", 0.3) == 0.3
    assert config.eval.lam_grid == (CHOICES if method in ("oat", "oats") else (0.0, 0.2, 0.7, 1.0))
    assert (config.eval.attack.num_steps, config.eval.attack.epsilon) == (20, pytest.approx(8 / 255))


@pytest.mark.parametrize("where", sorted(BENCHMARKS["oat"]))
def test_dedicated_networks_of_oat_accept_any_lam(where: str) -> None:
    config = resolve(f"pgd_at_{where}", {"sampler.lam": 0.2})
    assert (config.sampler.name, config.batch_size, config.epochs) == ("fixed", 256, 200)
    assert config.eval.attack.num_steps == 20


@pytest.mark.parametrize("where", sorted(BENCHMARKS["birds"]))
@pytest.mark.parametrize("method", METHODS["birds"])
def test_sparsity_winning_twice_shares_settings(method: str, where: str) -> None:
    config = resolve(f"{method}_{where}", {})
    assert f"{config.data.name}_{config.model.name}" == where
    assert (config.epochs, config.batch_size, config.attack.num_steps) == (200, 128, 10)
    assert config.attack.step_size == pytest.approx(2 / 255)
    assert (config.optim.schedule, config.optim.milestones) == ("multistep", (0.5, 0.75))
    assert getattr(config.method, "density", 0.2) == 0.2
    assert getattr(config.model, "dropout", 0.0) == 0.0


def test_expected_numbers_are_the_authors() -> None:
    recipes = table("recipe")
    assert (
        "RA 51.70 best and 47.51 last, SA 80.74 and 83.16" in recipes["flying_bird_plus_cifar10_preact_resnet18"].expect
    )
    assert "RA 25.54 best and 20.82 last" in recipes["robust_bird_cifar100_preact_resnet18"].expect
    assert "gap 36.84" in recipes["pgd_at_tiny_imagenet_preact_resnet18"].expect
    assert "not recovered" in recipes["flying_bird_cifar10_vgg16_bn"].expect


def test_baselines_average_their_weights() -> None:
    for name, gamma in (("pgd_at", 0.0), ("trades", 0.0), ("awp", 0.01)):
        config = resolve(f"{name}_cifar10_resnet18_averaged", {})
        assert (config.optim.averaging, config.optim.awp_gamma, config.epochs) == (0.995, gamma, 30)
        assert config.method.name == ("trades" if name == "trades" else "pgd_at")


@pytest.mark.parametrize("family", METHODS)
def test_papers_count_the_last_iterate(family: str) -> None:
    for name in (f"{method}_{where}" for method in METHODS[family] for where in BENCHMARKS[family]):
        assert resolve(name, {}).eval.attack_name == "pgd-last", name
    assert resolve("float_digits", {}).eval.attack_name == "pgd"
