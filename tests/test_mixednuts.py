"""MixedNUTS' transformation against the formula, and its fit on toy logits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from distcond.errors import ConfigError
from distcond.mixednuts import (
    POWERS,
    SATURATED,
    SCALES,
    SHIFTS,
    TOP,
    Mix,
    fit_transformation,
    margins,
    transform_logits,
)
from distcond.models.dial import NUM_SURROGATES, MixedNuts, surrogate_networks

MIX = Mix(0.5, 2.0, -1.0)


def by_hand(logits: list[float], mix: Mix) -> list[float]:
    """The formula in plain Python."""
    mean = sum(logits) / len(logits)
    deviation = math.sqrt(sum((h - mean) ** 2 for h in logits) / (len(logits) - 1))
    shifted = [(h - mean) / deviation + mix.c for h in logits]
    clamped = [z * 0.5 * (1 + math.erf(z / math.sqrt(2))) for z in shifted]
    return [mix.s * math.copysign(abs(g) ** mix.p, g) for g in clamped]


def test_transformation_matches_the_formula() -> None:
    logits = torch.tensor([[1.0, 2.0, 6.0, -1.0]], dtype=torch.float64)
    assert transform_logits(logits, MIX)[0].tolist() == pytest.approx(by_hand([1.0, 2.0, 6.0, -1.0], MIX), rel=1e-6)


def test_many_classes_are_normalised_by_the_largest() -> None:
    logits = torch.randn(1, 2 * TOP, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    top = logits.topk(TOP).values[0]
    normal = (logits[0] - top.mean()) / top.std()
    clamped = nn.functional.gelu(normal + MIX.c)
    assert torch.allclose(transform_logits(logits, MIX)[0], MIX.s * clamped.abs() ** 2 * clamped.sign())


def test_gradients_are_finite_where_all_logits_agree() -> None:
    logits = torch.zeros(2, 5, requires_grad=True)
    transform_logits(logits, Mix(5.0, 1.0, 0.0)).sum().backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


def end(*rows: list[float]) -> nn.Module:
    """A network with fixed logits."""

    class Answer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor(rows, dtype=torch.float64)

    return Answer()


def test_mix_is_the_log_of_mixed_probabilities() -> None:
    clean, robust = [0.3, -1.0, 2.0], [4.0, 1.0, 0.0]
    found = MixedNuts(end(clean), end(robust), 0.3, MIX)(torch.zeros(1, 3, 2, 2))[0]
    ours, theirs = (torch.tensor(logits, dtype=torch.float64).softmax(0) for logits in (clean, by_hand(robust, MIX)))
    assert torch.allclose(found.exp(), 0.7 * ours + 0.3 * theirs, atol=1e-7)


def test_attack_model_has_raw_logits() -> None:
    network = MixedNuts(end([0.3, 2.0]), end([4.0, 1.0]), 0.25, MIX)
    asked = [other(torch.zeros(1, 3, 2, 2))[0].tolist() for other in surrogate_networks(network)][:3]
    assert asked == [[0.3, 2.0], [4.0, 1.0], pytest.approx([0.25 * 4 + 0.75 * 0.3, 0.25 + 0.75 * 2])]


def test_attack_model_has_the_authors_surrogate() -> None:
    clean, robust = torch.tensor([[0.3, 2.0, 0.0], [4.0, 1.0, 0.0]], dtype=torch.float64)
    network = MixedNuts(end(clean.tolist()), end(robust.tolist()), 0.9, MIX)
    *_, surrogate = found = surrogate_networks(network)
    mean = (clean.softmax(0) + robust.softmax(0)) / 2
    assert torch.allclose(surrogate(torch.zeros(1, 3, 2, 2))[0].exp(), mean)
    assert len(found) == NUM_SURROGATES["mixednuts"] == 1 + NUM_SURROGATES["outputs"]


def toy(sure: float, count: int = 60) -> Tensor:
    """Logits of ten classes, the first ahead of noise by about `sure`."""
    logits = torch.randn(count, 10, generator=torch.Generator().manual_seed(int(10 * sure)))
    logits[:, 0] = logits[:, 1:].amax(1) + sure * (0.5 + torch.rand(count, generator=torch.Generator().manual_seed(1)))
    return logits


def test_fit_minimises_the_share_on_the_grid() -> None:
    wrong, attacked = toy(0.5), toy(1.0)
    shares = []
    for mix in itertools.starmap(Mix, itertools.product(SCALES, POWERS, SHIFTS)):
        threshold = torch.quantile(margins(attacked, mix), 0.05)
        if min(float(margins(logits, mix).min()) for logits in (wrong, attacked)) < 0:
            continue
        shares.append(float((margins(wrong, mix) >= threshold).double().mean()) if threshold < 1 - SATURATED else 1.0)
    found = fit_transformation(wrong, attacked, beta=0.95)
    assert found.surpass == min(shares) < max(shares)


@pytest.mark.parametrize("shift", [-1.4, -2.5])
def test_margins_are_of_the_raw_prediction(shift: float) -> None:
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    mix = Mix(5.0, 1.0, shift)
    turned = transform_logits(logits.double(), mix).argmax(1) != logits.argmax(1)
    assert turned.any() and torch.equal(margins(logits, mix) < 0, turned)


def test_fit_changes_no_prediction() -> None:
    wrong = torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
    for sure in (0.1, 0.5, 1.0, 2.0):
        attacked = toy(sure)
        found = fit_transformation(wrong, attacked, beta=0.7).mix
        for logits in (wrong, attacked):
            assert torch.equal(transform_logits(logits.double(), found).argmax(1), logits.argmax(1)), sure


def test_two_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^mix=mixednuts: 2 classes"):
        fit_transformation(torch.randn(5, 2), torch.randn(5, 2))


def test_alpha_keeps_a_share_of_beta() -> None:
    wrong, attacked = toy(0.5), toy(2.0)
    found = fit_transformation(wrong, attacked, beta=0.95)
    threshold = (1 - found.alpha) / found.alpha
    assert float((margins(attacked, found.mix) >= threshold - 1e-9).double().mean()) >= 0.95


def test_only_beta_near_one_keeps_all() -> None:
    wrong, attacked = toy(0.5), toy(1.0)
    assert (
        fit_transformation(wrong, attacked, beta=0.5).surpass <= fit_transformation(wrong, attacked, beta=0.99).surpass
    )


@pytest.mark.parametrize("empty", ["wrong", "attacked"])
def test_fit_without_images_is_refused(empty: str) -> None:
    nothing = torch.zeros(0, 10)
    with pytest.raises(ConfigError, match=r"^mix=mixednuts: needs .* found none"):
        fit_transformation(*((nothing, toy(1.0)) if empty == "wrong" else (toy(1.0), nothing)))
