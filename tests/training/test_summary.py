"""The summary of a finished run, against hand-computed values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distcond.evaluation.rows import Count
from distcond.models.flops import Cost
from distcond.operating_point import OperatingPoint
from distcond.training.fit import run_summary


def count(lam: float, ra: int, width: float = 1.0, nonzeros: int = 40) -> Count:
    return Count(OperatingPoint(lam, width=width), 90, ra, 100, None, 2.0, Cost(8.0 * nonzeros, 800.0, nonzeros, 100))


def trainer() -> Any:
    """The parts of a trainer that the summary reads."""
    model = torch.nn.Linear(3, 2)
    return SimpleNamespace(position=SimpleNamespace(done=4), model=model, train_flops=1e12)


def test_gaps_and_costs_of_every_point():
    counts = {
        "last": [count(0.0, 5), count(1.0, 50, nonzeros=20), count(1.0, 45, width=0.5)],
        "best": [count(0.0, 7, nonzeros=33), count(1.0, 54), count(1.0, 44, width=0.5)],
        "train": [count(0.0, 4), count(1.0, 62), count(1.0, 45, width=0.5)],
    }
    found = run_summary(trainer(), counts)
    assert {name: found[name] for name in ("epochs", "parameters", "train_flops")} == {
        "epochs": 4, "parameters": 8, "train_flops": 1e12,
    }  # fmt: skip
    places = [(point["lam"], point["width"]) for point in found["points"]]
    assert places == [(0.0, 1.0), (1.0, 1.0), (1.0, 0.5)]
    overfitting = [point["robust_overfitting_gap"] for point in found["points"]]
    assert overfitting == pytest.approx([0.02, 0.04, -0.01])  # best - last
    generalisation = [point["robust_generalization_gap"] for point in found["points"]]
    assert generalisation == pytest.approx([-0.01, 0.12, 0.0])  # training images - test
    # Cost and density are those of the last checkpoint.
    assert [(p["flops"], p["dense_flops"], p["nonzeros"], p["density"]) for p in found["points"]] == [
        (320.0, 800.0, 40, 0.4), (160.0, 800.0, 20, 0.2), (320.0, 800.0, 40, 0.4),
    ]  # fmt: skip


def test_no_generalisation_gap_without_training_images():
    counts = {"last": [count(1.0, 50)], "best": [count(1.0, 54)]}
    (point,) = run_summary(trainer(), counts)["points"]
    assert point["robust_generalization_gap"] is None
    assert point["robust_overfitting_gap"] == pytest.approx(0.04)
