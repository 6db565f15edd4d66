"""FLOAT on CIFAR-10 (arXiv 2204.00426)."""

from __future__ import annotations

from distcond.recipes.cifar10 import CIFAR10, TEN_EPOCHS
from distcond.recipes.recipe import Recipe

_FLOAT = {**CIFAR10, "method": "float"}

FLOAT_CIFAR10_RESNET34 = Recipe(
    name="float_cifar10_resnet34",
    summary="FLOAT on CIFAR-10 with ResNet-34 at the paper's setting",
    reproduces="arXiv 2204.00426, CIFAR-10 with ResNet-34: SGD 0.9, lr 0.1 cosine, 200 epochs, batch 128, PGD-7; "
    "no weight decay on alpha, which the authors' code has (optim.no_decay=)",
    expect="table not recovered; abstract: up to 6 % SA and 10 % RA better than OAT",
    cost="not run here",
    settings={**_FLOAT, "model": "resnet34", "epochs": 200, "eval.every": 10},
)

FLOAT_CIFAR10_RESNET18 = Recipe(
    name="float_cifar10_resnet18",
    summary="FLOAT on CIFAR-10 with ResNet-18 at a small budget: 15 epochs, one-cycle",
    reproduces="none; the paper's loss and attack with a short schedule",
    expect="not published",
    cost="not run here",
    settings={
        **_FLOAT, "model": "resnet18", "epochs": 15, "eval.every": 5,
        "optim.schedule": "onecycle", "optim.lr": 0.2, "optim.warmup": 0.3,
    },
)  # fmt: skip

FLOAT_CIFAR10_RESNET20 = Recipe(
    name="float_cifar10_resnet20",
    summary="FLOAT on CIFAR-10 with ResNet-20 at a budget for two CPU cores: 10 epochs, one-cycle",
    reproduces="none; the paper's loss and attack with a small network and a short schedule",
    expect="not published; here SA 83.5 / 67.7 %, RA 0.0 / 25.4 % at lam 0 / 1 (PGD-20, 8/255; docs/results.md)",
    cost="36 minutes of training and 17 of testing on two shared CPU cores (docs/results.md)",
    settings={**_FLOAT, **TEN_EPOCHS},
)
