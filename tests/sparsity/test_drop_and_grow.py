"""Dynamic masks: constant counts per layer, drop the smallest, grow by gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest
import torch
from torch import nn

from distcond.sparsity.distribution import erk
from distcond.sparsity.drop_and_grow import DensityTrend, DropAndGrow, UpdateSchedule
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import count_kept, layers_by_weight
from distcond.sparsity.update import cosine

FRACTION = partial(cosine, 0.5, 0.005)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Linear(16, 10))


def moving(
    model: nn.Module,
    growth: Literal["gradient", "random"] = "gradient",
    trend: DensityTrend | None = None,
    fraction: Callable[[float], float] = FRACTION,
) -> DropAndGrow:
    masked = MaskedWeights(layers_by_weight(model, (nn.Conv2d, nn.Linear)))
    return DropAndGrow(masked, 0.2, erk, UpdateSchedule(2, 2, fraction), growth, trend)


def test_updates_follow_the_interval_of_each_half() -> None:
    update_schedule = UpdateSchedule(3, 4, lambda done: 0.5)
    assert [step for step in range(1, 25) if update_schedule.due(step / 24, step)] == [3, 6, 9, 12, 16, 20]


@pytest.mark.parametrize("growth", ["gradient", "random"])
def test_the_density_of_every_layer_is_constant(bench: Any, growth: Literal["gradient", "random"]) -> None:
    model = network()
    masks = moving(model, growth)
    run = bench(model, masks)
    counts = count_kept(masks.masked.masks)
    assert counts == erk({name: weight.shape for name, weight in masks.masked.weights.items()}, sum(counts.values()))
    assert sum(counts.values()) == int(0.2 * masks.masked.num_weights + 0.5)
    before = {name: mask.clone() for name, mask in masks.masked.masks.items()}
    for step in range(12):
        run.run(step, step + 1)
        assert count_kept(masks.masked.masks) == counts
    assert masks.num_updates == 5
    assert all(not torch.equal(mask, before[name]) for name, mask in masks.masked.masks.items())


def test_updates_drop_the_smallest_and_grow_by_gradient(bench: Any) -> None:
    model = network()
    masks = moving(model, fraction=lambda done: 0.25)
    run = bench(model, masks)
    run.run(0, 1)
    old = {name: mask.clone() for name, mask in masks.masked.masks.items()}
    masks.update_schedule = UpdateSchedule(100, 100, masks.update_schedule.drop_fraction)
    run.run(1, 2)
    sizes = {name: weight.detach().abs().clone() for name, weight in masks.masked.weights.items()}
    masks._update(0.5, 2)
    for name, mask in masks.masked.masks.items():
        weight, num_kept = masks.masked.weights[name], int(old[name].sum())
        assert weight.grad is not None
        gradient, drops = weight.grad.abs(), -(-num_kept // 4)
        threshold = sizes[name][old[name]].sort().values[drops - 1]
        dropped = old[name] & (sizes[name] <= threshold)
        assert int(dropped.sum()) == drops
        candidates = gradient.masked_fill(old[name] & ~dropped, -1).flatten()
        chosen = torch.zeros_like(candidates, dtype=torch.bool)
        chosen[candidates.argsort(descending=True)[:drops]] = True
        assert torch.equal(mask, (old[name] & ~dropped) | chosen.view(mask.shape))


def test_random_growth_follows_seed_step_and_layer(bench: Any) -> None:
    found = []
    for noise in (1, 2):
        model = network()
        masks = moving(model, "random")
        run = bench(model, masks)
        run.run(0, 1)
        torch.manual_seed(noise)
        run.run(1, 2)
        found.append(masks.masked.masks)
    assert all(torch.equal(mask, found[1][name]) for name, mask in found[0].items())


def test_momentum_is_masked_with_the_weights(bench: Any) -> None:
    model = network()
    masks = moving(model)
    run = bench(model, masks)
    run.run(0, 5)
    for name, weight in masks.masked.weights.items():
        free = ~masks.masked.masks[name]
        assert (weight[free] == 0).all()
        assert (run.optimiser.state[weight]["momentum_buffer"][free] == 0).all()


def test_a_trend_changes_the_density(bench: Any) -> None:
    """The gap of the bench's history always grows: from half of the run on every update drops for good."""
    model = network()
    trend = DensityTrend(window=1, threshold=1.0, start=0.5, extra_drop=0.4, extra_grow=0.0)
    masks = moving(model, trend=trend, fraction=lambda done: 0.5)
    run = bench(model, masks)
    counts = count_kept(masks.masked.masks)
    run.run(0, 7)
    assert count_kept(masks.masked.masks) == counts
    run.run(7, 8)
    assert trend.num_drops == 1
    for name, count in count_kept(masks.masked.masks).items():
        assert count == counts[name] - -(-counts[name] * 2 // 10)


def test_a_rising_loss_grows_more_than_was_dropped(bench: Any) -> None:
    """The loss of the bench's history is 1, 0, 1, 0, ...: at a window of 2 half of its changes are upwards."""
    model = network()
    trend = DensityTrend(window=2, threshold=0.5, start=0.75, extra_drop=0.0, extra_grow=0.5)
    masks = moving(model, trend=trend, fraction=lambda done: 0.5)
    run = bench(model, masks)
    counts = count_kept(masks.masked.masks)
    run.run(0, 11)
    assert trend.num_grows == 1
    for name, count in count_kept(masks.masked.masks).items():
        drops = -(-counts[name] // 2)
        assert count == counts[name] - drops + drops * 3 // 2


class Always(DensityTrend):
    """A trend that adds both in every update."""

    def extra_shares(self, done: float) -> tuple[float, float]:
        return 0.4, 0.05


def test_amounts_are_those_of_the_authors(bench: Any) -> None:
    """Of n kept: ceil(n / 2) dropped, ceil(0.2 n) for good, int(1.05 dropped) grown; a dense layer stays."""
    model = network()
    masks = moving(model, trend=Always(), fraction=lambda done: 0.5)
    masks.counts = dict(zip(masks.counts, (3 * 8 * 9, 100, 30), strict=True))
    run = bench(model, masks)
    run.run(0, 1)
    masks._update(0.5, 2)
    # 100: -50 -20 +52; 30: -15 -6 +15.
    assert list(count_kept(masks.masked.masks).values()) == [216, 82, 24]


@pytest.mark.parametrize("growth", ["gradient", "random"])
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    bench: Any, resumes: Any, growth: Literal["gradient", "random"]
) -> None:
    def make(start: bool) -> Any:
        model = network()
        return bench(model, moving(model, growth, DensityTrend(window=1)), start=start)

    resumes(make, 12)
