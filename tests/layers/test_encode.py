"""Codes of lam: the matrices, their place in a saved network, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distcond.errors import ConfigError
from distcond.layers.encode import CODEBOOKS, Codebook, RawLam, build_encoder, code_matrix

CHOICES = (0.0, 0.1, 0.2, 0.3, 0.4, 1.0)
LAM = torch.tensor([0.4, 0.0, 1.0, 0.1, 0.1])


@pytest.mark.parametrize("kind", CODEBOOKS)
def test_each_choice_has_its_row(kind: str) -> None:
    rows = code_matrix(kind, 8, seed=3).float()
    assert torch.equal(Codebook(kind, CHOICES, 8, seed=3)(LAM), rows[[4, 0, 5, 1, 1]])
    mixed = (1.0, 0.1, 0.4, 0.0)
    assert torch.equal(Codebook(kind, mixed, 8, seed=3)(LAM), rows[[2, 3, 0, 1, 1]])


def test_the_dct_equals_scipys() -> None:
    fft = pytest.importorskip("scipy.fft", reason="scipy, which scikit-learn brings, is not installed")
    assert np.allclose(code_matrix("dct", 16).numpy(), fft.dct(np.eye(16), axis=0), atol=1e-12)
    assert torch.equal(code_matrix("dct", 16)[0], torch.full((16,), 2.0, dtype=torch.float64))


def test_random_codes_are_orthonormal_and_follow_the_seed() -> None:
    rows = code_matrix("rand", 32, seed=1)
    assert torch.allclose(rows @ rows.T, torch.eye(32, dtype=torch.float64), atol=1e-12)
    assert torch.equal(rows, code_matrix("rand", 32, seed=1))
    assert (rows - code_matrix("rand", 32, seed=2)).abs().max() > 0.1


def test_the_codes_are_saved() -> None:
    old, new = Codebook("rand", CHOICES, 8, seed=1), Codebook("rand", CHOICES, 8, seed=2)
    assert not torch.equal(new(LAM), old(LAM))
    new.load_state_dict(old.state_dict())
    assert torch.equal(new(LAM), old(LAM))


def test_without_encoding_lam_is_its_own_code() -> None:
    raw = build_encoder("none", CHOICES, 128)
    assert isinstance(raw, RawLam)
    assert raw.dim == 1
    raw.check(0.77)
    assert torch.equal(raw(LAM), LAM[:, None])


@pytest.mark.parametrize("kind", CODEBOOKS)
def test_an_unseen_lam_is_refused_by_name(kind: str) -> None:
    codes = Codebook(kind, CHOICES, 8)
    codes.check(0.4)
    codes.check(LAM)
    wanted = rf"^eval.lam_grid=0.7: method.encoding={kind} has one code per method.lam_choices=0,0.1,0.2,0.3,0.4,1; "
    with pytest.raises(ConfigError, match=wanted):
        codes.check(torch.tensor([0.0, 0.7]), "eval.lam_grid")
    with pytest.raises(ConfigError, match=r"^lam=0.25: "):
        codes.check(0.25)


def test_interpolation_mixes_the_two_neighbouring_rows() -> None:
    codes = Codebook("rand", (1.0, 0.0, 0.2), 8, interpolate=True)
    one, zero, fifth = codes(torch.tensor([1.0, 0.0, 0.2]))
    plain = Codebook("rand", (1.0, 0.0, 0.2), 8)(torch.tensor([1.0, 0.0, 0.2]))
    assert torch.equal(torch.stack([one, zero, fifth]), plain)
    mixed = codes(torch.tensor([0.05, 0.6]))
    assert torch.allclose(mixed, torch.stack([0.75 * zero + 0.25 * fifth, 0.5 * fifth + 0.5 * one]), atol=1e-6)
    codes.check(torch.tensor([0.05, 0.6]))


def test_interpolation_refuses_lam_outside_the_choices() -> None:
    codes = Codebook("dct", (0.2, 0.8), 8, interpolate=True)
    with pytest.raises(ConfigError, match=r"^lam=0.1: .*0.2 and 0.8"):
        codes.check(0.1)
    alone = torch.tensor([0.2])
    assert torch.equal(Codebook("dct", (0.2,), 8, interpolate=True)(alone), Codebook("dct", (0.2,), 8)(alone))


@pytest.mark.parametrize(
    ("kind", "choices", "dim", "wanted"),
    [
        ("sine", CHOICES, 8, r"method.encoding 'sine': .*none, onehot, dct, rand"),
        ("rand", CHOICES, 5, r"method.dim=5: "),
        ("rand", (0.1, 0.1), 5, r"method.lam_choices=0.1,0.1: "),
        ("rand", (), 5, r"method.lam_choices=: "),
    ],
)
def test_choices_that_do_not_fit_are_refused(kind: str, choices: tuple[float, ...], dim: int, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        build_encoder(kind, choices, dim)


@pytest.mark.gpu
@pytest.mark.parametrize("interpolate", [False, True])
def test_encoding_on_a_gpu_does_not_synchronise(interpolate: bool) -> None:
    codes, lam = Codebook("rand", CHOICES, 8, interpolate).cuda(), LAM.cuda()
    wanted = codes(lam)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = codes(lam)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found, wanted)
