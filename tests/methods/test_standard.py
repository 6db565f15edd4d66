"""Standard training: clean cross-entropy, one operating point, and PGD-AT at lam 0."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from distcond.layers.condition import Condition
from distcond.methods.standard import METHOD
from distcond.methods.step_context import StepRandomness
from distcond.runs.build import build_model, build_step


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_loss_is_clean_cross_entropy_at_any_lam(tiny: Any, lam: float) -> None:
    config = tiny("standard", precision__train="float32", sampler__lam=lam)
    step = build_step(config, build_model(config), torch.device("cpu"))
    net = copy.deepcopy(step.model)
    x, y = torch.rand(6, 3, 8, 8), torch.arange(6)
    loss, counts = step(x, y, StepRandomness(0, 0, 0, 0, 1, torch.full((6,), lam)))
    assert loss.item() == pytest.approx(F.cross_entropy(net(x, Condition(torch.zeros(1), False)), y).item(), abs=1e-6)
    assert counts[[1, 3]].tolist() == [6, 0]


def test_it_evaluates_at_lam_zero(tiny: Any) -> None:
    assert METHOD.lam_grid(tiny("standard")) == (0.0,)
