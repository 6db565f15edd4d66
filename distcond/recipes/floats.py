"""FLOATS: FLOAT with sparse weights (arXiv 2204.00426). Interpretation: noise falls on the kept weights only."""

from __future__ import annotations

from distcond.recipes.cifar10 import CIFAR10, TEN_EPOCHS
from distcond.recipes.digits import DIGITS
from distcond.recipes.recipe import Recipe

FLOATS_DIGITS = Recipe(
    name="floats_digits",
    summary="FLOATS on the digits at 30 % of the weights",
    reproduces="none; shows FLOATS (arXiv 2204.00426) on images that need no download",
    expect="not published",
    cost="under a minute on two CPU cores",
    settings={**DIGITS, "method": "floats", "method.density": 0.3},
)

FLOATS_CIFAR10_RESNET34 = Recipe(
    name="floats_cifar10_resnet34",
    summary="FLOATS on CIFAR-10 with ResNet-34 at the setting of the authors' code: 10 % of the weights",
    reproduces="arXiv 2204.00426, CIFAR-10 with ResNet-34: SGD 0.9, lr 0.1 cosine, 200 epochs, batch 128, PGD-7",
    expect="table not recovered",
    cost="not run here",
    settings={**CIFAR10, "method": "floats", "model": "resnet34", "epochs": 200, "eval.every": 10},
)

FLOATS_CIFAR10_RESNET20 = Recipe(
    name="floats_cifar10_resnet20",
    summary="FLOATS on CIFAR-10 with ResNet-20 at 30 % of the weights: 10 epochs, one-cycle",
    reproduces="none; the paper's loss and masks with a small network and a short schedule",
    expect="not published",
    cost="not run here",
    settings={**CIFAR10, **TEN_EPOCHS, "method": "floats", "method.density": 0.3},
)
