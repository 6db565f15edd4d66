"""Standard training: the accuracy that every trade-off starts from."""

from __future__ import annotations

from distcond.recipes.cifar10 import CIFAR10, TEN_EPOCHS
from distcond.recipes.digits import DIGITS
from distcond.recipes.recipe import Recipe

STANDARD_DIGITS = Recipe(
    name="standard_digits",
    summary="standard training on the digits",
    reproduces="none; the SA to compare with",
    expect="not published",
    cost="under a minute on two CPU cores",
    settings={**DIGITS, "method": "standard"},
)

STANDARD_CIFAR10_RESNET18 = Recipe(
    name="standard_cifar10_resnet18",
    summary="standard training on CIFAR-10 with ResNet-18, 200 epochs",
    reproduces="none; the SA to compare with, in the setting of the adversarial recipes",
    expect="about 95 % SA is common for this network and schedule",
    cost="not run here",
    settings={**CIFAR10, "method": "standard", "model": "resnet18", "epochs": 200, "eval.every": 10},
)

STANDARD_CIFAR10_RESNET20 = Recipe(
    name="standard_cifar10_resnet20",
    summary="standard training on CIFAR-10 with ResNet-20: 10 epochs, one-cycle",
    reproduces="none; the SA to compare with",
    expect="not published",
    cost="not run here",
    settings={**CIFAR10, **TEN_EPOCHS, "method": "standard"},
)
