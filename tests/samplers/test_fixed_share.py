"""OAT's sampler: as many rows at lam = 0 in every batch, the others among the other choices."""

from __future__ import annotations

import pytest
import torch

from distcond.samplers.distributions import FIXED_SHARE, FixedShareOptions

CHOICES = (0.0, 0.1, 0.2, 0.3, 0.4, 1.0)


def draw(n: int, seed: int = 0, **options: object) -> torch.Tensor:
    return FIXED_SHARE.draw(FixedShareOptions(**options), n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "zeros"), [(128, 22), (64, 11), (256, 43), (6, 1), (1, 1)])
def test_zero_gets_its_share_among_the_choices(n: int, zeros: int) -> None:
    for seed in range(3):
        lam = draw(n, seed)
        assert lam.shape == (n,)
        assert lam.dtype == torch.float32
        assert torch.equal(lam == 0, torch.arange(n) < zeros)


@pytest.mark.parametrize(("share", "zeros"), [(0.5, 50), (0.07, 7), (0.071, 8), (0.0, 0), (1.0, 100)])
def test_share_can_be_set_and_rounds_up(share: float, zeros: int) -> None:
    assert int((draw(100, share=share) == 0).sum()) == zeros


def test_the_rest_is_uniform_over_the_other_choices() -> None:
    lam = draw(60_000)
    others = lam[lam != 0]
    for choice in CHOICES[1:]:
        share = float((others == torch.tensor(choice)).float().mean())
        assert share == pytest.approx(0.2, abs=0.01)


def test_only_choices_with_zero_give_rows_at_zero() -> None:
    assert set(draw(50, choices=(0.5, 1.0)).tolist()) == {0.5, 1.0}
    assert set(draw(50, choices=(0.0,), share=0.5).tolist()) == {0.0}


def test_it_is_a_function_of_the_generator() -> None:
    assert torch.equal(draw(128, 3), draw(128, 3))
    assert not torch.equal(draw(128, 3), draw(128, 4))
