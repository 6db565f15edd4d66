from __future__ import annotations

import pytest

from distcond.tuning.verdict import judge, same_order


def test_a_clear_difference_is_better_and_a_small_one_is_not() -> None:
    assert judge([0.50, 0.51, 0.52], [0.40, 0.41, 0.43]).better
    close = judge([0.50, 0.41, 0.52], [0.40, 0.51, 0.43])
    assert not close.better and str(close).startswith("not shown to be better: hypervolume +0.0300")


def test_the_interval_is_students() -> None:
    found = judge([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert (found.low, found.high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))


def test_one_seed_shows_nothing() -> None:
    assert not judge([0.9], [0.1]).better


def test_order() -> None:
    assert same_order([0.3, 0.2, 0.1], [0.2, 0.1, 0.0])
    assert not same_order([0.3, 0.2, 0.1], [0.2, 0.3, 0.0])
