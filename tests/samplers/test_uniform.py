"""lam over a range."""

from __future__ import annotations

import pytest
import torch

from distcond.errors import ConfigError
from distcond.samplers.distributions import UNIFORM, UniformOptions


def draw(n: int, seed: int = 0, **options: object) -> torch.Tensor:
    return UNIFORM.draw(UniformOptions(**options), n, torch.Generator().manual_seed(seed))


def test_it_covers_the_range_evenly() -> None:
    lam = draw(40_000, low=0.2, high=0.6, share=0.0)
    counts = torch.histc(lam, 4, 0.2, 0.6)
    assert float(lam.min()) > 0.2
    assert float(lam.max()) <= 0.6
    assert (counts / 10_000 - 1).abs().max() < 0.05


def test_exactly_the_share_is_at_zero() -> None:
    for seed in range(5):
        assert int((draw(128, seed) == 0).sum()) == 26
    assert int((draw(128, share=0.0) == 0).sum()) == 0
    assert int((draw(128, share=1.0) == 0).sum()) == 128


def test_an_inverted_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sampler.low=0.6: .*sampler.high=0.5"):
        draw(4, low=0.6, high=0.5)


def test_it_is_a_function_of_the_generator() -> None:
    assert torch.equal(draw(128, 3), draw(128, 3))
    assert not torch.equal(draw(128, 3), draw(128, 4))
