"""Every recipe resolves, builds, and takes a step at reduced size; and says what it reproduces."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distcond.config.identity import run_id
from distcond.config.overrides import from_settings, resolve, to_settings
from distcond.config.schema import Config
from distcond.engine.build import build_model, build_step
from distcond.engine.job import stages_of
from distcond.engine.optimiser import learning_rate, make_optimiser, set_learning_rate
from distcond.methods.draws import Draws
from distcond.registry import lookup, table

RECIPES = table("recipe")
N = 8


def reduced(name: str) -> Config:
    """The recipe with a few channels, a few rows and two attack steps."""
    options = resolve(name, {}).model
    sizes = {"depths": (1,) * len(getattr(options, "depths", ())), "widths": (4,) * len(getattr(options, "widths", ()))}
    small: dict[str, Any] = {f"model.{part}": value for part, value in sizes.items() if hasattr(options, part)}
    return resolve(name, {**small, "batch_size": N, "attack.num_steps": 2, "precision.train": "float32"})


@pytest.mark.parametrize("name", RECIPES)
def test_it_resolves_to_its_own_settings(name: str) -> None:
    config = resolve(name, {})
    assert config.recipe == name
    assert from_settings(to_settings(config)) == config
    assert run_id(config, "f").startswith(f"{config.method.name}-{config.data.name}-{config.model.name}-s0-")


@pytest.mark.parametrize("name", RECIPES)
def test_it_takes_a_step(name: str) -> None:
    config = reduced(name)
    method = lookup("method", config.method.name)
    model = build_model(config)
    step = build_step(config, model, torch.device("cpu"))
    stage, sparsity = stages_of(config, method)[-1], method.sparsity(config, model)
    step.objective = stage.objective
    optimiser = make_optimiser(model, stage.optim)
    if sparsity is not None:
        sparsity.start(stage.name)
    draw = lookup("sampler", config.sampler.name).draw
    lam = draw(config.sampler, N, torch.Generator().manual_seed(0)).sort().values
    x = torch.rand(N, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    classes = lookup("data", config.data.name).num_classes
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss, _ = step(x, torch.arange(N) % classes, Draws(0, 0, 0, 0, 1, lam))
    loss.backward()
    set_learning_rate(optimiser, learning_rate(stage.optim, 0, 1, 10, stage.epochs))
    optimiser.step()
    if sparsity is not None:
        sparsity.after_step(optimiser, 0.1, 1)
    assert loss.isfinite()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2


@pytest.mark.parametrize("name", RECIPES)
def test_it_says_what_it_is(name: str) -> None:
    recipe = RECIPES[name]
    for text in (recipe.summary, recipe.reproduces, recipe.expect, recipe.cost):
        assert text
        assert "\n" not in text


@pytest.mark.parametrize("name", RECIPES)
def test_its_attack_can_cross_its_ball(name: str) -> None:
    config = resolve(name, {})
    for attack in (config.attack, config.eval.attack):
        assert attack.step_size * attack.num_steps >= attack.epsilon
        assert attack.random_start


def test_the_papers_setting_of_float() -> None:
    config = resolve("float_cifar10_resnet34", {})
    assert (config.method.name, config.model.name, config.data.name) == ("float", "resnet34", "cifar10")
    assert (config.epochs, config.batch_size) == (200, 128)
    assert config.attack.epsilon == pytest.approx(8 / 255)
    assert config.attack.step_size == pytest.approx(10 / 255 / 7)
    assert config.attack.num_steps == 7
    optim = config.optim
    assert (optim.lr, optim.momentum, optim.weight_decay, optim.schedule) == (0.1, 0.9, 5e-4, "cosine")
    assert config.eval.lam_grid == (0.0, 0.2, 0.7, 1.0)
    assert (config.eval.attack.num_steps, config.eval.attack.epsilon) == (20, pytest.approx(8 / 255))
