"""Every row independently one of several values."""

from __future__ import annotations

import pytest
import torch

from distcond.samplers.distributions import UNIFORM_DISCRETE, UniformDiscreteOptions


def draw(n: int, seed: int = 0, **options: object) -> torch.Tensor:
    return UNIFORM_DISCRETE.draw(UniformDiscreteOptions(**options), n, torch.Generator().manual_seed(seed))


def test_every_choice_is_equally_likely_in_every_row() -> None:
    lam = draw(40_000, choices=(0.0, 0.2, 0.7, 1.0))
    for choice in (0.0, 0.2, 0.7, 1.0):
        assert float((lam == torch.tensor(choice)).float().mean()) == pytest.approx(0.25, abs=0.01)


def test_the_number_at_zero_varies() -> None:
    assert len({int((draw(128, seed) == 0).sum()) for seed in range(5)}) > 1


def test_it_is_a_function_of_the_generator() -> None:
    assert draw(10).shape == (10,)
    assert torch.equal(draw(128, 3), draw(128, 3))
    assert not torch.equal(draw(128, 3), draw(128, 4))
