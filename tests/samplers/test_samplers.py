"""How lam is drawn: counts, bounds, and a function of the generator alone."""

from __future__ import annotations

import pytest
import torch

from distcond.config.overrides import resolve
from distcond.methods.step_context import StepRandomness
from distcond.registry import table
from distcond.samplers.distributions import FixedOptions, TwoPointOptions
from distcond.samplers.distributions import draw_fixed as fixed
from distcond.samplers.distributions import draw_two_point as two_point

SAMPLERS = table("sampler")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("n", [1, 2, 7, 128])
def test_rows_get_lam_in_the_unit_interval(name: str, n: int) -> None:
    lam = SAMPLERS[name].draw(SAMPLERS[name].options, n, seeded())
    assert lam.shape == (n,)
    assert lam.dtype == torch.float32
    assert lam.device.type == "cpu"
    assert ((lam >= 0) & (lam <= 1)).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_draw_is_a_function_of_its_generator(name: str) -> None:
    sampler, state = SAMPLERS[name], torch.get_rng_state()
    one, again = (sampler.draw(sampler.options, 64, seeded(3)) for _ in range(2))
    assert torch.equal(one, again)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", SAMPLERS)
def test_union_over_ranks_ignores_the_number_of_ranks(name: str) -> None:
    sampler = SAMPLERS[name]
    lam = sampler.draw(sampler.options, 11, seeded(3)).sort().values
    for world in (1, 2, 3):
        parts = [StepRandomness(0, 0, 0, rank, world, lam).all_rows() for rank in range(world)]
        rows = [
            part.lam
            if isinstance(part.lam, torch.Tensor)
            else torch.full((part.rows.stop - part.rows.start,), part.lam)
            for part in parts
        ]
        assert torch.equal(torch.cat(rows).sort().values, lam)


def test_fixed_is_one_value() -> None:
    assert fixed(FixedOptions(lam=0.3), 5, seeded()).tolist() == pytest.approx([0.3] * 5)


@pytest.mark.parametrize(
    ("share", "n", "low"),
    [
        (0.5, 128, 64),
        (0.5, 7, 4),
        (0.25, 10, 3),
        (0.0, 6, 0),
        (1.0, 6, 6),
        (0.07, 100, 7),
        (0.28, 100, 28),
        (0.1, 1, 1),
    ],
)
def test_two_point_counts_are_equal_in_all_batches(share: float, n: int, low: int) -> None:
    options = TwoPointOptions(low=0.2, high=0.75, share=share)
    for seed in range(3):
        lam = two_point(options, n, seeded(seed))
        assert len(lam) == n
        assert int((lam == 0.2).sum()) == low
        assert int((lam == 0.75).sum()) == n - low


def test_the_methods_of_the_papers_have_their_samplers() -> None:
    assert resolve("float_digits", {}).sampler == TwoPointOptions(name="two_point", low=0.0, high=1.0, share=0.5)
    assert resolve("pgd_at_digits", {}).sampler == FixedOptions(name="fixed", lam=1.0)
