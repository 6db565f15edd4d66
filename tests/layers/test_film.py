"""FiLM: the authors' formula, the same per row as for the whole pass, folded or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from distcond.layers.condition import Condition
from distcond.layers.film import FiLM, apply_modulation
from distcond.layers.folding import ConvNorm
from distcond.layers.layer_set import film_layers


def made(channels: int = 5, code_dim: int = 3, identity_start: bool = False) -> FiLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FiLM(channels, code_dim, identity_start)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = draw(4, 5, 6, 6)


def coded(code: Tensor) -> Condition:
    return Condition(torch.full((len(code),), 0.5), True, code=code)


def test_it_is_the_formula_of_the_authors() -> None:
    layer, code = made(), draw(4, 3, seed=2)
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in layer.parameters())

    def leaky(values: np.ndarray) -> np.ndarray:
        return np.where(values > 0, values, 0.01 * values)

    out = leaky(leaky(code.double().numpy() @ w1.T + b1) @ w2.T + b2)
    wanted = X.numpy() * out[:, :5, None, None] + out[:, 5:, None, None]
    assert w1.shape == (10, 3)
    assert w2.shape == (10, 10)
    assert np.allclose(layer(X, coded(code)).detach().numpy(), wanted, atol=1e-6)


def test_one_code_equals_that_code_per_row() -> None:
    layer, code = made(), draw(1, 3, seed=2)
    assert torch.allclose(layer(X, coded(code)), layer(X, coded(code.expand(4, 3))), atol=1e-6)


def test_every_row_is_modulated_by_its_own_code() -> None:
    layer, codes = made(), draw(4, 3, seed=2)
    rows = layer(X, coded(codes))
    for n in range(4):
        assert torch.allclose(rows[n : n + 1], layer(X[n : n + 1], coded(codes[n : n + 1])), atol=1e-6)


@pytest.mark.parametrize("rows", [1, 4])
def test_as_affine_equals_the_forward(rows: int) -> None:
    layer, cond = made(), coded(draw(rows, 3, seed=2))
    scale, shift = layer.as_affine(cond)
    assert scale.shape == shift.shape == ((5,) if rows == 1 else (4, 5))
    wanted = layer(X, cond)
    assert torch.allclose(X * scale.view(rows, 5, 1, 1) + shift.view(rows, 5, 1, 1), wanted, atol=1e-6)


def test_can_start_as_identity_and_leave_it() -> None:
    layer, cond = made(identity_start=True), coded(draw(4, 3, seed=2))
    assert torch.equal(layer(X, cond), X)
    layer(X, cond).square().sum().backward()
    assert layer.out.weight.grad is not None
    assert layer.out.weight.grad.abs().amin() > 0


def test_it_keeps_layout_and_dtype() -> None:
    x = X.to(torch.bfloat16, memory_format=torch.channels_last)
    for codes in (draw(1, 3), draw(4, 3)):
        out = made()(x, coded(codes))
        assert out.dtype == torch.bfloat16
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_a_fold_per_row_computes_the_coefficients_once() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unit = ConvNorm(film_layers(3), 5, 4).eval()
    rows = coded(draw(4, 3, seed=2))
    (folded,) = (unit.fold(rows, torch.float32),)
    assert folded.modulation is not None
    assert [part.shape for part in folded.modulation] == [(4, 4), (4, 4)]
    without_code = rows._replace(folded=(folded,), code=None)
    assert torch.allclose(unit(X, without_code), unit(X, rows), atol=1e-5)
    assert unit.fold(coded(draw(1, 3)), torch.float32).modulation is None


def test_shortcuts_have_no_modulation() -> None:
    assert ConvNorm(film_layers(3), 5, 4, modulated=False).modulate is None


def test_modulated_is_scale_times_x_plus_shift() -> None:
    modulated = apply_modulation(torch.full((1, 1, 1, 1), 3.0), torch.tensor([[2.0]]), torch.tensor([[5.0]]))
    assert torch.equal(modulated.flatten(), torch.tensor([11.0]))
