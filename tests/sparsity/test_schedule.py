"""Schedules by hand."""

from __future__ import annotations

import math

import pytest

from distcond.sparsity.update import cosine, linear


@pytest.mark.parametrize(("done", "rate"), [(0, 0.5), (0.25, 0.375), (0.5, 0.25), (1, 0)])
def test_linear(done: float, rate: float) -> None:
    assert linear(0.5, 0.0, done) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("done", "rate"),
    [(0, 0.5), (0.25, 0.43), (0.5, 0.25), (0.75, 0.08), (1, 0.005)],
)
def test_cosine_of_flying_bird(done: float, rate: float) -> None:
    """0.43 at epoch 50 of 200, 0.25 at 100, 0.08 at 150, as the authors' code has it."""
    assert cosine(0.5, 0.005, done) == pytest.approx(rate, abs=0.003)
    assert cosine(0.5, 0.005, done) == pytest.approx(0.005 + 0.495 * (1 + math.cos(math.pi * done)) / 2)
