"""TRADES (arXiv 1901.08573)."""

from __future__ import annotations

from distcond.recipes.cifar10 import CIFAR10_PGD10, TEN_EPOCHS
from distcond.recipes.digits import DIGITS
from distcond.recipes.recipe import Recipe

TRADES_DIGITS = Recipe(
    name="trades_digits",
    summary="TRADES on the digits at method.beta",
    reproduces="none; TRADES (arXiv 1901.08573) on images that need no download",
    expect="not published",
    cost="under a minute on two CPU cores",
    settings={**DIGITS, "method": "trades"},
)

TRADES_CIFAR10_RESNET18 = Recipe(
    name="trades_cifar10_resnet18",
    summary="TRADES on CIFAR-10 with ResNet-18: beta 6, 100 epochs, drops at 75 and 90",
    reproduces="arXiv 1901.08573, CIFAR-10: beta 6, PGD-10 with steps of 2/255; ResNet-18 in place of WRN-34-10",
    expect="published elsewhere for ResNet-18: 49.5 % under AutoAttack",
    cost="not run here",
    settings={
        **CIFAR10_PGD10, "method": "trades", "model": "resnet18", "epochs": 100, "eval.every": 5,
        "optim.milestones": (0.75, 0.9),
    },
)  # fmt: skip

TRADES_CIFAR10_RESNET20 = Recipe(
    name="trades_cifar10_resnet20",
    summary="TRADES on CIFAR-10 with ResNet-20: 10 epochs, one-cycle",
    reproduces="none; the paper's loss with a small network and a short schedule",
    expect="not published",
    cost="not run here",
    settings={**CIFAR10_PGD10, **TEN_EPOCHS, "method": "trades"},
)
