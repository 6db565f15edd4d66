"""Slimmable FLOAT on CIFAR-10 and on the digits (arXiv 2204.00426)."""

from __future__ import annotations

from distcond.recipes.digits import FLOAT_DIGITS
from distcond.recipes.float_cifar10 import FLOAT_CIFAR10_RESNET20, FLOAT_CIFAR10_RESNET34
from distcond.recipes.recipe import Recipe

_FLOAT_SLIM = {"method": "float_slim"}

FLOAT_SLIM_CIFAR10_RESNET34 = Recipe(
    name="float_slim_cifar10_resnet34",
    summary="FLOAT slim on CIFAR-10 with ResNet-34 at widths 1 and 0.5",
    reproduces="arXiv 2204.00426, CIFAR-10 with ResNet-34 at FLOAT's setting; the training loop is an interpretation",
    expect="table not recovered",
    cost="not run here",
    settings={**FLOAT_CIFAR10_RESNET34.settings, **_FLOAT_SLIM},
)

FLOAT_SLIM_CIFAR10_RESNET20 = Recipe(
    name="float_slim_cifar10_resnet20",
    summary="FLOAT slim on CIFAR-10 with ResNet-20: 10 epochs, one-cycle",
    reproduces="none; the paper's loss and attack with a small network and a short schedule",
    expect="not published",
    cost="not run here",
    settings={**FLOAT_CIFAR10_RESNET20.settings, **_FLOAT_SLIM},
)

FLOAT_SLIM_DIGITS = Recipe(
    name="float_slim_digits",
    summary="FLOAT slim on 8x8 handwritten digits at widths 1 and 0.5",
    reproduces="none; shows slimmable FLOAT's trade-off on images that need no download",
    expect="not published; at every width SA(lam=0) >= 96 %, RA(lam=1) at least 30 points above RA(lam=0)",
    cost="one minute on one CPU core",
    settings={**FLOAT_DIGITS.settings, **_FLOAT_SLIM},
)
