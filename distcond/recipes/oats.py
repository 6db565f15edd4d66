"""OATS on CIFAR-10 and on the digits (arXiv 2010.11828)."""

from __future__ import annotations

from distcond.recipes.oat import OAT_CIFAR10_RESNET20, OAT_CIFAR10_RESNET34, OAT_DIGITS
from distcond.recipes.recipe import Recipe

_OATS = {"method": "oats"}

OATS_CIFAR10_RESNET34 = Recipe(
    name="oats_cifar10_resnet34",
    summary="OATS on CIFAR-10 with ResNet-34 at widths 1, 0.75 and 0.5",
    reproduces="arXiv 2010.11828, CIFAR-10 with ResNet-34 at OAT's setting; the training loop is an interpretation",
    expect="table not recovered; abstract: as good as or better than dedicated networks",
    cost="not run here",
    settings={**OAT_CIFAR10_RESNET34.settings, **_OATS},
)

OATS_CIFAR10_RESNET20 = Recipe(
    name="oats_cifar10_resnet20",
    summary="OATS on CIFAR-10 with ResNet-20: 10 epochs, one-cycle",
    reproduces="none; the paper's loss and attack with a small network and a short schedule",
    expect="not published",
    cost="not run here",
    settings={**OAT_CIFAR10_RESNET20.settings, **_OATS},
)

OATS_DIGITS = Recipe(
    name="oats_digits",
    summary="OATS on 8x8 handwritten digits at widths 1, 0.75 and 0.5",
    reproduces="none; shows OATS on images that need no download; its FiLM starts as the identity (not the paper)",
    expect="not published; at every width SA(lam=0) >= 96 %, RA(lam=1) at least 30 points above RA(lam=0)",
    cost="three minutes on one CPU core",
    settings={**OAT_DIGITS.settings, **_OATS},
)
