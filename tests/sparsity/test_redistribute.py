"""Sparse momentum by hand: who drops, who grows, and that the total stays."""

from __future__ import annotations

import pytest
import torch

from distcond.sparsity.distribution import LayerCounts, momentum_shares, redistribute


def test_shares_are_means_over_kept_entries() -> None:
    scores = {"a": torch.tensor([1.0, 9.0, 3.0]), "b": torch.tensor([[6.0], [100.0]])}
    masks = {"a": torch.tensor([True, False, True]), "b": torch.tensor([[True], [False]])}
    assert momentum_shares(scores, masks) == pytest.approx([0.25, 0.75])
    assert momentum_shares({"a": torch.zeros(3)}, {"a": masks["a"]}) == [0.0]


def test_drops_and_grows_by_hand() -> None:
    # ceil(0.5 * 10) and ceil(0.5 * 21) go; 5 + 11 = 16 come as 1 : 3.
    plan = redistribute(LayerCounts([10, 21], [100, 100], [1, 1]), [0.25, 0.75], 0.5, 31)
    assert plan.drops == [5, 11]
    assert plan.grows == [4, 12]


def test_full_layers_drop_at_most_their_sparsity() -> None:
    layers = LayerCounts([90, 90, 90], [100, 100, 1000], [1, 1, 1])
    plan = redistribute(layers, [0.6, 0.2, 0.2], 0.5, 270)
    assert plan.drops == [9, 45, 45]


def test_layers_fill_to_99_percent_of_free_weights() -> None:
    # 50 + 50 go; the first layer could take 60 at most, and gets 59 of its 60.
    plan = redistribute(LayerCounts([100, 100], [110, 1000], [1, 1]), [1.0, 0.0], 0.5, 200)
    assert plan.drops == [10, 50]
    assert plan.grows == [19, 41]
    assert int(0.99 * (110 - 90)) == 19


def test_layers_fill_completely_if_needed() -> None:
    # 499 of 999 stay; of the 501 free places 500 are needed, and 99 % are 495.
    plan = redistribute(LayerCounts([999], [1000], [1]), [1.0], 0.5, 999)
    assert (plan.drops, plan.grows) == ([500], [500])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("density", [0.01, 0.3, 0.95, 0.999])
def test_the_budget_is_met_exactly(rate: float, density: float) -> None:
    source = torch.Generator().manual_seed(3)
    total = torch.randint(50, 5000, (20,), generator=source).tolist()
    kept = [max(1, int(density * n)) for n in total]
    shares = torch.rand(20, generator=source).pow(4).tolist()
    budget = sum(kept)
    for _ in range(5):
        plan = redistribute(LayerCounts(kept, total, [1] * 20), shares, rate, budget)
        kept = [n - drops + grows for n, drops, grows in zip(kept, *plan, strict=True)]
        assert sum(kept) == budget
        assert all(1 <= n <= most for n, most in zip(kept, total, strict=True))


def test_channels_stay_within_one_below_budget() -> None:
    layers = LayerCounts([2, 8, 16], [3, 16, 32], [144, 288, 576])
    budget = 2 * 144 + 8 * 288 + 16 * 576
    plan = redistribute(layers, [0.2, 0.5, 0.3], 0.5, budget)
    kept = [n - drops + grows for n, drops, grows in zip(layers.kept, *plan, strict=True)]
    found = sum(n * size for n, size in zip(kept, layers.size, strict=True))
    assert 0 <= budget - found < 576
