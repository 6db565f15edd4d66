"""Layers exchange density by momentum; the network's density is exact and constant, also across a resume."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import count_kept, layers_by_weight
from distcond.sparsity.momentum_regrowth import MomentumRegrowth
from distcond.sparsity.update import CHANNEL, GRANULARITIES, WEIGHT, Granularity, linear


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 1), nn.Linear(16, 10))


def regrowth(model: nn.Module, density: float = 0.3, by: Granularity = WEIGHT, seed: int = 0) -> MomentumRegrowth:
    return MomentumRegrowth(MaskedWeights(layers_by_weight(model)), density, partial(linear, 0.5, 0.0), by, seed)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.77, 1.0])
def test_density_starts_uniform_and_stays_exact_overall(bench: Any, density: float) -> None:
    model = network()
    masks = regrowth(model, density)
    run = bench(model, masks)
    total = 3 * 8 * 9 + 8 * 16 * 9 + 16 * 16
    for name, count in count_kept(masks.masked.masks).items():
        assert count == pytest.approx(density * masks.masked.weights[name].numel(), abs=1)
    for epoch in range(4):
        run.run(3 * epoch, 3 * epoch + 3)
        assert sum(count_kept(masks.masked.masks).values()) == int(density * total + 0.5)
        assert sum(int((weight != 0).sum()) for weight in masks.masked.weights.values()) == int(density * total + 0.5)
    assert masks.num_updates == 3
    assert masks.report()["density"] == pytest.approx(density, abs=1e-3)


def test_layer_densities_follow_the_momentum(bench: Any) -> None:
    model = network()
    masks = regrowth(model)
    run = bench(model, masks)
    run.run(0, 3)
    before = count_kept(masks.masked.masks)
    run.optimiser.state[model[2].weight]["momentum_buffer"] *= 100
    run.run(3, 4)
    after = count_kept(masks.masked.masks)
    assert after["2.weight"] > 2 * before["2.weight"]
    assert after["0.weight"] < before["0.weight"]


def test_updates_drop_the_smallest_and_grow_by_momentum(bench: Any) -> None:
    model = network()
    masks = regrowth(model)
    run = bench(model, masks)
    run.run(0, 3)
    hold, before = masks.masked.apply_masks, dict(masks.masked.masks)
    sizes: dict[str, Tensor] = {}

    def held(optimiser: torch.optim.Optimizer | None = None) -> None:
        hold(optimiser)
        if not sizes:
            sizes.update({name: weight.detach().abs().clone() for name, weight in masks.masked.weights.items()})

    masks.masked.apply_masks = held  # type: ignore[method-assign]
    run.run(3, 4)
    for name, old in before.items():
        new, weight = masks.masked.masks[name], masks.masked.weights[name]
        momentum = run.optimiser.state[weight]["momentum_buffer"].abs()
        stays, leaves, comes = old & new, old & ~new, ~old & new
        assert comes.any()
        # What was dropped may have grown again at once: of the others, all that left are smaller than all that stayed.
        never = stays & ~(momentum >= momentum[comes].min())
        if leaves.any() and never.any():
            assert sizes[name][leaves].max() <= sizes[name][never].min()
        assert momentum[comes].min() >= momentum[~old & ~new].max()
        assert (weight[comes] == 0).all()


def test_updates_happen_in_the_next_epoch(bench: Any) -> None:
    """What was validated is what is saved."""
    model = network()
    masks = regrowth(model)
    run = bench(model, masks)
    run.run(0, 2)
    before = {name: mask.clone() for name, mask in masks.masked.masks.items()}
    run.run(2, 3)
    assert all(torch.equal(mask, before[name]) for name, mask in masks.masked.masks.items())
    run.run(3, 4)
    assert not all(torch.equal(mask, before[name]) for name, mask in masks.masked.masks.items())


def test_momentum_stays_dense(bench: Any) -> None:
    model = network()
    masks = regrowth(model)
    run = bench(model, masks)
    run.run(0, 5)
    for weight in masks.masked.weights.values():
        assert (run.optimiser.state[weight]["momentum_buffer"] != 0).all()


def test_channels_are_kept_or_dropped_completely(bench: Any) -> None:
    model = network()
    masks = regrowth(model, 0.5, CHANNEL)
    run = bench(model, masks)
    budget = masks.budget
    before = {name: mask.clone() for name, mask in masks.masked.masks.items()}
    for step in range(12):
        run.run(step, step + 1)
        for mask in masks.masked.masks.values():
            assert (mask == mask[:1, :, :1, :1]).all()
        # One channel of the largest layer is 16 x 9 weights.
        assert 0 <= budget - sum(count_kept(masks.masked.masks).values()) < 144
    assert any(not torch.equal(mask, before[name]) for name, mask in masks.masked.masks.items())


@pytest.mark.parametrize("by", GRANULARITIES.values())
def test_a_resumed_run_ends_as_the_uninterrupted_one(bench: Any, resumes: Any, by: Granularity) -> None:
    def make(start: bool) -> Any:
        model = network()
        return bench(model, regrowth(model, by=by), start=start)

    resumes(make, 12)


def test_first_masks_follow_the_seed() -> None:
    one, same, other = (regrowth(network(), seed=seed) for seed in (1, 1, 2))
    for masks in (one, same, other):
        torch.manual_seed(0)
        masks.start("train")
    assert all(torch.equal(mask, same.masked.masks[name]) for name, mask in one.masked.masks.items())
    assert not all(torch.equal(mask, other.masked.masks[name]) for name, mask in one.masked.masks.items())
