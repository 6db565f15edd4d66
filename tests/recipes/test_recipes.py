"""Every recipe resolves, builds, takes a step at reduced size, and documents itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distcond.config.overrides import from_settings, resolve, to_settings
from distcond.config.run_id import run_id
from distcond.config.schema import Config
from distcond.methods.step_context import StepRandomness
from distcond.recipes.recipe import GPU_RATE, Recipe
from distcond.recipes.train_flops import TRAIN_FLOPS
from distcond.registry import lookup, table
from distcond.runs.build import build_model, build_step
from distcond.training.build_trainer import stages_of
from distcond.training.flops import train_flops
from distcond.training.optimiser import learning_rate, make_optimiser, set_learning_rate
from support.groups import trained

RECIPES: dict[str, Recipe] = table("recipe")
N, PIXELS = 8, 16


def reduced(name: str) -> Config:
    """The recipe with a few channels, a few rows and one attack step."""
    options = resolve(name, {}).model
    sizes = {part: (few,) * len(getattr(options, part, ())) for part, few in (("depths", 1), ("widths", 8))}
    small: dict[str, Any] = {f"model.{part}": value for part, value in sizes.items() if value}
    if hasattr(options, "stem_width"):
        small["model.stem_width"] = 8
    if getattr(resolve(name, {}).method, "by", "") == "channel":
        small["method.density"] = 0.5  # a few channels cannot be dropped nine times in ten
    return resolve(name, {**small, "batch_size": N, "attack.num_steps": 1, "precision.train": "float32"})


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_resolves_to_its_settings(name: str) -> None:
    config = resolve(name, {})
    assert config.recipe == name
    assert from_settings(to_settings(config)) == config
    assert run_id(config, "f").startswith(f"{config.method.name}-{config.data.name}-{config.model.name}-s0-")


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_takes_a_step(name: str) -> None:
    config = reduced(name)
    method = lookup("method", config.method.name)
    model = build_model(config)
    assert sum(parameter.numel() for parameter in model.parameters()) < 50_000
    step = build_step(config, model, torch.device("cpu"))
    stage, sparsity = stages_of(config, method)[-1], method.sparsity(config, model)
    step.objective = stage.objective
    optimiser = make_optimiser(model, stage.optim)
    if sparsity is not None:
        sparsity.start(stage.name)
    draw = lookup("sampler", config.sampler.name).draw
    lam = draw(config.sampler, N, torch.Generator().manual_seed(0)).sort().values
    x = torch.rand(N, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(1))
    classes = lookup("data", config.data.name).num_classes
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss, _ = step(x, torch.arange(N) % classes, StepRandomness(0, 0, 0, 0, 1, lam))
    loss.backward()
    step.after_backward()
    set_learning_rate(optimiser, learning_rate(stage.optim, 0, 1, 10, stage.epochs))
    optimiser.step()
    if sparsity is not None:
        sparsity.after_step(optimiser, 0.1, 1)
    assert loss.isfinite()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_documented(name: str) -> None:
    recipe, config = RECIPES[name], resolve(name, {})
    for text in (recipe.summary, recipe.reproduces, recipe.expect, recipe.cost, recipe.ran):
        assert text and "\n" not in text
    raw = config.method.name in ("oat", "oats", "float", "float_slim", "floats", "smart") and "digits" not in name
    assert not raw or (config.data.mean, config.data.std) == ((0.0,) * 3, (1.0,) * 3)
    assert "digits" not in name or config.data.mean == ()
    if not recipe.reproduces.startswith("none"):
        assert recipe.paper is not None
        assert recipe.reproduces.startswith(f"arXiv {recipe.paper.arxiv}, ")
    method = "awp" if config.optim.awp_gamma else config.method.name
    where = "digits" if config.data.name == "digits" else f"{config.data.name}_{config.model.name}"
    variant = f"_{recipe.variant}" if recipe.variant else ""
    assert name.removesuffix("_averaged") == f"{method}_{where}{variant}"


@pytest.mark.parametrize("name", RECIPES)
def test_cost_is_up_to_date(name: str) -> None:
    recipe = RECIPES[name]  # python benchmarks/recipe_cost.py prints the number
    assert recipe.train_flops == pytest.approx(train_flops(resolve(name, {})), rel=0.02)
    assert recipe.gpu_hours == pytest.approx(recipe.train_flops / GPU_RATE / 3600)


def test_costs_belong_to_existing_recipes() -> None:
    assert set(TRAIN_FLOPS) <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_attack_can_reach_any_perturbation(name: str) -> None:
    config = resolve(name, {})
    for attack in (config.attack, config.eval.attack):
        assert attack.step_size * attack.num_steps >= attack.epsilon
        assert attack.random_start


@pytest.mark.parametrize("method", trained())
def test_methods_have_recipes_for_each_small_budget(method: str) -> None:
    assert {f"{method}_digits", f"{method}_cifar10_resnet20"} <= set(RECIPES)
