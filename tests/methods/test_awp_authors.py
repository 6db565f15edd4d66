"""Adversarial weight perturbation against the code of its authors, where a checkout of it is at hand.

git clone https://github.com/csdongxian/AWP
DISTCOND_AWP_CHECKOUT=AWP python -m pytest tests/methods/test_awp_authors.py
"""

from __future__ import annotations

import copy
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.methods.weight_perturbation import WeightPerturbation
from distcond.models.conditional import ConditionalModel
from distcond.runs.build import build_model

CHECKOUT = os.environ.get("DISTCOND_AWP_CHECKOUT", "")
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="DISTCOND_AWP_CHECKOUT names no checkout of AWP's authors' code")


class OnePath(nn.Module):
    """A conditional model as the plain module that their code perturbs."""

    def __init__(self, model: ConditionalModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x, self.model.condition(1.0))
        return logits


def test_the_perturbed_weights_are_theirs(tiny: Any) -> None:
    path = Path(CHECKOUT) / "AT_AWP" / "utils_awp.py"
    spec = importlib.util.spec_from_file_location("utils_awp", path)
    assert spec is not None
    assert spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    ours, network = (OnePath(build_model(tiny("pgd_at", "resnet20")).double()).train() for _ in range(2))
    x, y = torch.rand(8, 3, 8, 8, dtype=torch.float64), torch.arange(8)

    proxy = copy.deepcopy(network)
    adversary = theirs.AdvWeightPerturb(network, proxy, torch.optim.SGD(proxy.parameters(), lr=0.01), gamma=0.01)
    adversary.perturb(adversary.calc_awp(x, y))
    WeightPerturbation(ours, 0.01).apply(lambda: F.cross_entropy(ours(x), y))
    for (name, found), wanted in zip(ours.named_parameters(), network.parameters(), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12), name
