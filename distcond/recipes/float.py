"""FLOAT, FLOAT slim and FLOATS (arXiv 2204.00426)."""

from __future__ import annotations

from typing import Any, NamedTuple

from distcond.recipes.papers import FLOAT
from distcond.recipes.protocols import (
    CIFAR10,
    CIFAR100,
    DIFFERS,
    PGD7,
    RAW_PIXELS,
    STL10,
    SVHN,
    TINY_IMAGENET,
    Benchmark,
    decided,
    paper_setting,
)
from distcond.recipes.recipe import Recipe
from distcond.recipes.train_flops import TRAIN_FLOPS


class _Variant(NamedTuple):
    method: str
    title: str
    expect: str
    open: str
    settings: dict[str, Any]


_ALPHA = "no weight decay on alpha, which the authors' code has (optim.no_decay=)"
_LOSS = "the loss of the paper's text, half clean and half attacked; the authors' code weighs the attacked half by half"
_VARIANTS = (
    _Variant(
        "float", "FLOAT", "table not recovered; abstract: up to 6 % SA and 10 % RA better than OAT", "", {}
    ),
    _Variant(
        "float_slim",
        "FLOAT slim at widths 1 and 0.5",
        "table not recovered",
        "the training loop, which the authors did not publish: that of slimmable networks; they published a slimmable "
        "ResNet-34 only",
        {},
    ),
    _Variant(
        "floats",
        "FLOATS at 10 % of the weights",
        "table not recovered",
        "noise on the kept weights only (method.dense_noise=true for the authors'); the density, that of their code",
        {"method.density": 0.1},
    ),
)  # fmt: skip


def _recipe(variant: _Variant, on: Benchmark) -> Recipe:
    name = f"{variant.method}_{on.suffix}"
    return Recipe(
        name=name,
        summary=f"{variant.title} on {on.title} in the setting of the paper",
        reproduces=f"arXiv 2204.00426, {on.title}, by the authors' code: SGD 0.9, cosine, 200 epochs, batch 128, PGD-7",
        expect=variant.expect,
        settings={**paper_setting(on), "method": variant.method, **variant.settings},
        paper=FLOAT,
        interpretation=decided(variant.open, _LOSS, _ALPHA, DIFFERS, on.open),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )


FLOAT_CIFAR10_RESNET18 = Recipe(
    name="float_cifar10_resnet18",
    summary="FLOAT on CIFAR-10 with ResNet-18 at a small budget: one-cycle",
    reproduces="none; the paper's loss and attack with a short schedule",
    expect="not published",
    settings={
        **PGD7, **RAW_PIXELS, "data": "cifar10", "method": "float", "model": "resnet18", "epochs": 15, "eval.every": 5,
        "optim.schedule": "onecycle", "optim.lr": 0.2, "optim.warmup": 0.3,
    },
    paper=FLOAT,
    interpretation=decided("ResNet-18 and 15 epochs of one cycle in place of ResNet-34 and 200", _LOSS, _ALPHA),
    train_flops=TRAIN_FLOPS.get("float_cifar10_resnet18", 0.0),
)  # fmt: skip

RECIPES = tuple(_recipe(variant, on) for variant in _VARIANTS for on in (CIFAR10, CIFAR100, SVHN, STL10, TINY_IMAGENET))
