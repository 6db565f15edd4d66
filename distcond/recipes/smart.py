"""SMART: a clean and an adversarial mask over one weight (arXiv 2302.03523).

Interpretation: how the masks learn, and that lam between 0 and 1 means the nearer of two operating points.
"""

from __future__ import annotations

from distcond.recipes.cifar10 import CIFAR10, TEN_EPOCHS
from distcond.recipes.digits import DIGITS
from distcond.recipes.recipe import Recipe

SMART_DIGITS = Recipe(
    name="smart_digits",
    summary="SMART on the digits, each path with half of the weights",
    reproduces="none; shows SMART (arXiv 2302.03523) on images that need no download",
    expect="not published",
    cost="under a minute on two CPU cores",
    settings={**DIGITS, "method": "smart"},
)

SMART_CIFAR10_RESNET34 = Recipe(
    name="smart_cifar10_resnet34",
    summary="SMART on CIFAR-10 with ResNet-34, each path with half of the weights",
    reproduces="arXiv 2302.03523, CIFAR-10 with ResNet-34, in FLOAT's setting; the paper's own was not recovered",
    expect="table not recovered; abstract: up to 2.72x fewer non-zero weights",
    cost="not run here",
    settings={**CIFAR10, "method": "smart", "model": "resnet34", "epochs": 200, "eval.every": 10},
)

SMART_CIFAR10_RESNET20 = Recipe(
    name="smart_cifar10_resnet20",
    summary="SMART on CIFAR-10 with ResNet-20, each path with half of the weights: 10 epochs, one-cycle",
    reproduces="none; SMART with a small network and a short schedule",
    expect="not published",
    cost="not run here",
    settings={**CIFAR10, **TEN_EPOCHS, "method": "smart"},
)
