"""Flying Bird: masked layers, distribution of the density, schedule of updates."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distcond.errors import ConfigError
from distcond.methods.flying_bird import METHOD
from distcond.runs.build import build_model
from distcond.sparsity.distribution import DISTRIBUTIONS
from distcond.sparsity.masks import count_kept


@pytest.mark.parametrize("distribution", list(DISTRIBUTIONS))
def test_stem_and_classifier_have_configured_densities(tiny: Any, distribution: str) -> None:
    config = tiny("flying_bird", method__distribution=distribution)
    model = build_model(config)
    masks = METHOD.sparsity(config, model)
    assert masks is not None
    masks.start("train")
    weights = {name: tensor for name, tensor in model.named_parameters() if tensor.dim() in (2, 4)}
    assert list(masks.masked.weights) == list(weights)
    total = int(0.2 * sum(weight.numel() for weight in weights.values()) + 0.5)
    wanted = DISTRIBUTIONS[distribution]({name: weight.shape for name, weight in weights.items()}, total)
    assert count_kept(masks.masked.masks) == wanted
    assert all(int((weight != 0).sum()) == wanted[name] for name, weight in weights.items())


def test_the_schedule_is_the_settings(tiny: Any) -> None:
    config = tiny("flying_bird")
    masks = METHOD.sparsity(config, build_model(config))
    assert masks is not None
    assert [masks.update_schedule.drop_fraction(done) for done in (0.0, 0.5, 1.0)] == pytest.approx(
        [0.5, 0.2525, 0.005]
    )
    assert (masks.update_schedule.every, masks.update_schedule.every_late, masks.growth) == (900, 900, "gradient")
    config = tiny(
        "flying_bird",
        method__schedule="linear",
        method__drop_fraction=0.4,
        method__drop_fraction_end=0,
        method__update_every=10,
        method__update_every_late=20,
        method__growth="random",
    )
    masks = METHOD.sparsity(config, build_model(config))
    assert masks is not None
    assert [masks.update_schedule.drop_fraction(done) for done in (0.0, 0.5, 1.0)] == pytest.approx([0.4, 0.2, 0.0])
    assert (masks.update_schedule.every, masks.update_schedule.every_late, masks.growth) == (10, 20, "random")


def test_first_masks_follow_the_runs_seed(tiny: Any) -> None:
    found = []
    for seed in (1, 1, 2):
        config = tiny("flying_bird", seed=seed)
        masks = METHOD.sparsity(config, build_model(config))
        assert masks is not None
        masks.start("train")
        found.append(torch.cat([mask.flatten() for mask in masks.masked.masks.values()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_density_one_has_no_masks(tiny: Any) -> None:
    config = tiny("flying_bird", method__density=1)
    assert METHOD.sparsity(config, build_model(config)) is None


@pytest.mark.parametrize("density", [0, 1.5])
def test_a_density_outside_the_unit_interval_is_refused(tiny: Any, density: float) -> None:
    with pytest.raises(ConfigError, match=r"method.density="):
        tiny("flying_bird", method__density=density)


def test_a_density_that_starves_a_layer_is_refused(tiny: Any) -> None:
    config = tiny("flying_bird", method__density=0.001)
    with pytest.raises(ConfigError, match=r"density: .*1 .*5 layers"):
        METHOD.sparsity(config, build_model(config))
