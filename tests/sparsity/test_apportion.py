"""Whole numbers add up to the budget, near the shares, within the caps."""

from __future__ import annotations

import pytest
import torch

from distcond.errors import ConfigError
from distcond.sparsity.distribution import apportion, round_to_total


def test_parts_are_proportional_and_excess_is_redistributed() -> None:
    assert apportion(12, [1, 2, 3], [100, 100, 100]) == pytest.approx([2, 4, 6])
    # 6 does not fit into 3; the other 9 go 1 : 2.
    assert apportion(12, [1, 2, 3], [100, 100, 3]) == pytest.approx([3, 6, 3])
    # Then 6 does not fit into 4 either.
    assert apportion(12, [1, 2, 3], [100, 4, 3]) == pytest.approx([5, 4, 3])
    assert apportion(12, [1, 2, 3], [1, 1, 1]) == pytest.approx([1, 1, 1])


def test_without_any_share_the_caps_decide() -> None:
    assert apportion(6, [0, 0, 0], [2, 4, 6]) == pytest.approx([1, 2, 3])
    # The only layer in demand is full: what is left is nobody's by share.
    assert apportion(6, [1, 0, 0], [2, 4, 4]) == pytest.approx([2, 2, 2])


def test_rounding_favours_large_remainders_then_the_earlier() -> None:
    assert round_to_total([1.2, 2.7, 3.1], 7, [9, 9, 9]) == [1, 3, 3]
    assert round_to_total([1.5, 1.5, 1.5, 1.5], 6, [9] * 4) == [2, 2, 1, 1]
    assert round_to_total([1.5, 1.5, 1.5, 1.5], 6, [1, 9, 9, 9]) == [1, 2, 2, 1]


def test_the_largest_part_pays_for_the_minimum() -> None:
    assert round_to_total([0.1, 0.1, 9.8], 10, [9, 9, 20], least=1) == [1, 1, 8]


def test_too_small_a_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"density: .*2 .*3 layers"):
        round_to_total([0.1, 0.1, 1.8], 2, [9, 9, 9], least=1)


def test_totals_are_met_exactly_for_any_shares() -> None:
    source = torch.Generator().manual_seed(0)
    for _ in range(100):
        caps = torch.randint(1, 1000, (7,), generator=source).tolist()
        shares = torch.rand(7, generator=source).square().tolist()
        total = int(torch.randint(7, sum(caps) + 1, (1,), generator=source))
        units = round_to_total(apportion(total, shares, caps), total, caps, least=1)
        assert sum(units) == total
        assert all(1 <= n <= cap for n, cap in zip(units, caps, strict=True))


def test_large_units_stay_just_below_the_total() -> None:
    sizes, caps = [9, 90, 270], [3, 20, 20]
    units = round_to_total([2.9, 4.2, 3.7], 1500, caps, sizes)
    assert 1500 - 9 < sum(n * size for n, size in zip(units, sizes, strict=True)) <= 1500 or units[0] == caps[0]
    assert units == [3, 4, 4]
