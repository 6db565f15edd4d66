"""OAT on CIFAR-10 and on the digits (arXiv 2010.11828)."""

from __future__ import annotations

from distcond.recipes.digits import FLOAT_DIGITS
from distcond.recipes.float_cifar10 import FLOAT_CIFAR10_RESNET20, FLOAT_CIFAR10_RESNET34
from distcond.recipes.recipe import Recipe

_OAT = {"method": "oat", "eval.lam_grid": (0.0, 0.1, 0.2, 0.3, 0.4, 1.0)}

OAT_CIFAR10_RESNET34 = Recipe(
    name="oat_cifar10_resnet34",
    summary="OAT on CIFAR-10 with ResNet-34 at the authors' setting",
    reproduces="arXiv 2010.11828, CIFAR-10 with ResNet-34: SGD 0.9, lr 0.1 cosine, 200 epochs, batch 128, PGD-7, RAND",
    expect="table not recovered; abstract: as good as or better than a dedicated PGD-AT network at every lam",
    cost="not run here",
    settings={**FLOAT_CIFAR10_RESNET34.settings, **_OAT},
)

OAT_CIFAR10_RESNET20 = Recipe(
    name="oat_cifar10_resnet20",
    summary="OAT on CIFAR-10 with ResNet-20 at a budget for two CPU cores: 10 epochs, one-cycle",
    reproduces="none; the paper's loss and attack with a small network and a short schedule",
    expect="not published",
    cost="not run here",
    settings={**FLOAT_CIFAR10_RESNET20.settings, **_OAT},
)

OAT_DIGITS = Recipe(
    name="oat_digits",
    summary="OAT on 8x8 handwritten digits",
    reproduces="none; shows OAT on images that need no download; its FiLM starts as the identity (not the paper)",
    expect="not published; SA(lam=0) >= 97 %, RA(lam=1) at least 20 points above RA(lam=0)",
    cost="one minute on one CPU core",
    # With FiLM as in the paper this small network, which has no shortcuts, starts so slowly that it ends 14 points of
    # RA lower.
    settings={**FLOAT_DIGITS.settings, **_OAT, "method.identity_start": True},
)
