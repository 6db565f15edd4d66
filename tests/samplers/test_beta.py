"""lam from a Beta distribution."""

from __future__ import annotations

import pytest
import torch

from distcond.samplers.distributions import BETA, BetaOptions


def draw(n: int, seed: int = 0, **options: object) -> torch.Tensor:
    return BETA.draw(BetaOptions(**options), n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("a", "b"), [(2.0, 5.0), (0.5, 0.5), (1.0, 1.0)])
def test_it_has_the_moments_of_the_distribution(a: float, b: float) -> None:
    lam = draw(40_000, a=a, b=b, share=0.0)
    assert float(lam.mean()) == pytest.approx(a / (a + b), abs=0.01)
    assert float(lam.var()) == pytest.approx(a * b / ((a + b) ** 2 * (a + b + 1)), abs=0.005)
    assert float(lam.min()) >= 0
    assert float(lam.max()) <= 1


def test_the_share_is_at_zero() -> None:
    for seed in range(5):
        assert int((draw(128, seed) == 0).sum()) == 26


def test_it_is_a_function_of_the_generator() -> None:
    assert draw(10).dtype == torch.float32
    assert torch.equal(draw(128, 3), draw(128, 3))
    assert not torch.equal(draw(128, 3), draw(128, 4))
