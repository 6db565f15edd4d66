"""Two steps of every recipe on images of its data set's size, at full width.

Most networks have one block per stage here, since a CPU takes a minute for the deepest ones at full depth.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distcond.config.overrides import resolve
from distcond.methods.step_context import StepRandomness
from distcond.recipes.recipe import Recipe
from distcond.registry import lookup, table
from distcond.runs.build import build_model, build_step
from distcond.training.build_trainer import stages_of
from distcond.training.optimiser import learning_rate, make_optimiser, set_learning_rate
from support.groups import quick

RECIPES: dict[str, Recipe] = table("recipe")
N, STEPS = 4, 2
#: Networks at full depth, one for each kind of block.
DEEP = ("oat_cifar10_resnet34", "float_svhn_wrn16_8", "flying_bird_plus_cifar10_preact_resnet18")


@pytest.mark.parametrize("name", quick("float_digits", "oat_cifar10_resnet20", of=RECIPES))
def test_recipe_trains_at_full_size(name: str) -> None:
    small: dict[str, Any] = {"batch_size": N, "attack.num_steps": 1, "precision.train": "float32"}
    depths = getattr(resolve(name, {}).model, "depths", ())
    config = resolve(name, small | ({"model.depths": (1,) * len(depths)} if depths and name not in DEEP else {}))
    dataset, method = lookup("data", config.data.name), lookup("method", config.method.name)
    model = build_model(config)
    step, sparsity, rng = build_step(config, model, torch.device("cpu")), method.sparsity(config, model), generator()
    stage = stages_of(config, method)[-1]
    step.objective, optimiser = stage.objective, make_optimiser(model, stage.optim)
    if sparsity is not None:
        sparsity.start(stage.name)
    for number in range(STEPS):
        lam = lookup("sampler", config.sampler.name).draw(config.sampler, N, rng).sort().values
        x = torch.rand(N, 3, dataset.image_size, dataset.image_size, generator=rng)
        y = torch.randint(dataset.num_classes, (N,), generator=rng)
        outcome = step(x, y, StepRandomness(0, 0, number, 0, 1, lam))
        optimiser.zero_grad()
        outcome.loss.backward()
        step.after_backward()
        set_learning_rate(optimiser, learning_rate(stage.optim, 0, number, 10, stage.epochs))
        optimiser.step()
        if sparsity is not None:
            sparsity.after_step(optimiser, (number + 1) / 10, number + 1)
        assert outcome.loss.isfinite()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
