"""The once-for-all papers: OAT and OATS with their dedicated baselines (arXiv 2010.11828), FLOAT, FLOAT slim and
FLOATS (arXiv 2204.00426), SMART (arXiv 2302.03523).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from distcond.recipes import authors
from distcond.recipes.protocols import (
    CIFAR10,
    CIFAR100,
    PGD7,
    RAW_PIXELS,
    STL10,
    SVHN,
    TINY_IMAGENET,
    Benchmark,
    paper_setting,
)
from distcond.recipes.recipe import FLOAT, OAT, SMART, Deviation, Recipe
from distcond.recipes.train_flops import TRAIN_FLOPS

_OAT_EXPECT = "table not recovered; abstract: as good as or better than a dedicated PGD-AT network at every lam"
_RESNETS_ONLY = Deviation("slimmable networks", "this one", "ResNets only")
_OAT_SETTING = "SGD 0.9, cosine, 200 epochs, batch 128, PGD-7"


def _oat(on: Benchmark) -> Recipe:
    name = f"oat_{on.suffix}"
    return Recipe(
        name=name,
        summary=f"OAT on {on.title} in the authors' setting",
        reproduces=f"arXiv 2010.11828, one network for every lam, {on.title}: {_OAT_SETTING}, RAND codes of 128",
        expect=_OAT_EXPECT,
        settings={**paper_setting(on), "method": "oat"},
        paper=OAT,
        deviations=(*authors.ONCE_FOR_ALL_DEVIATIONS, *on.open),
        authors=authors.on_benchmark(authors.OAT, on),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )


def _oats(on: Benchmark) -> Recipe:
    name = f"oats_{on.suffix}"
    return Recipe(
        name=name,
        summary=f"OATS on {on.title} at widths 1, 0.75 and 0.5",
        reproduces=f"arXiv 2010.11828, one network for every lam and width, {on.title}: {_OAT_SETTING}, "
        "RAND codes of 128",
        expect="table not recovered; abstract: as good as or better than dedicated networks",
        settings={**paper_setting(on), "method": "oats"},
        paper=OAT,
        deviations=(
            authors.SLIMMABLE_LOOP,
            *((_RESNETS_ONLY,) if on is not CIFAR10 else ()),
            *authors.ONCE_FOR_ALL_DEVIATIONS,
            *on.open,
        ),
        authors=authors.on_benchmark(authors.OAT, on),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )


def _dedicated(on: Benchmark) -> Recipe:
    name = f"pgd_at_{on.suffix}"
    return Recipe(
        name=name,
        summary=f"OAT's baseline on {on.title}: a network dedicated to one sampler.lam (0, 0.1, 0.2, 0.3, 0.4 or 1)",
        reproduces=f"arXiv 2010.11828, PGD-AT at one lam, {on.title}: SGD 0.9, cosine, 200 epochs, batch 256, PGD-7; "
        "one run for each sampler.lam",
        expect="table not recovered",
        settings={**paper_setting(on), "method": "pgd_at", "sampler.lam": 1.0, "batch_size": 256},
        paper=OAT,
        deviations=(*authors.ONCE_FOR_ALL_DEVIATIONS, *on.open),
        authors=authors.on_benchmark(authors.OAT_BASELINE, on),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )


OAT_RECIPES = tuple(recipe(on) for recipe in (_oat, _oats, _dedicated) for on in (CIFAR10, SVHN, STL10))


class _FloatVariant(NamedTuple):
    method: str
    title: str
    expect: str
    open: tuple[Deviation, ...]
    settings: dict[str, Any]


_FLOAT_VARIANTS = (
    _FloatVariant(
        "float", "FLOAT", "table not recovered; abstract: up to 6 % SA and 10 % RA better than OAT", (), {}
    ),
    _FloatVariant(
        "float_slim",
        "FLOAT slim at widths 1 and 0.5",
        "table not recovered",
        (authors.SLIMMABLE_LOOP, Deviation("slimmable networks", "every network", "ResNet-34 only")),
        {},
    ),
    _FloatVariant(
        "floats",
        "FLOATS at 10 % of the weights",
        "table not recovered",
        (authors.DENSE_NOISE, Deviation("density", "10 %, the default of their code", "unknown in the paper")),
        {"method.density": 0.1},
    ),
)  # fmt: skip


def _float(variant: _FloatVariant, on: Benchmark) -> Recipe:
    name = f"{variant.method}_{on.suffix}"
    return Recipe(
        name=name,
        summary=f"{variant.title} on {on.title} in the setting of the paper",
        reproduces=f"arXiv 2204.00426, {on.title}, by the authors' code: SGD 0.9, cosine, 200 epochs, batch 128, PGD-7",
        expect=variant.expect,
        settings={**paper_setting(on), "method": variant.method, **variant.settings},
        paper=FLOAT,
        deviations=(*variant.open, *authors.FLOAT_DEVIATIONS, *on.open),
        authors=authors.on_benchmark(authors.FLOATS if variant.method == "floats" else authors.FLOAT, on),
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
    deviations=(
        Deviation(
            "network and schedule", "ResNet-18, 15 epochs of one cycle", "ResNet-34, 200 epochs of a cosine",
        ),
        *authors.FLOAT_DEVIATIONS,
    ),
    train_flops=TRAIN_FLOPS.get("float_cifar10_resnet18", 0.0),
)  # fmt: skip

FLOAT_RECIPES = tuple(
    _float(variant, on) for variant in _FLOAT_VARIANTS for on in (CIFAR10, CIFAR100, SVHN, STL10, TINY_IMAGENET)
)


_SMART_OPEN = (
    Deviation("training", "data sets, networks and schedule of FLOAT", "unknown, the paper's text was not at hand"),
    Deviation("density", "half of the weights per path", "unknown"),
    Deviation("masks", "learned as in FLOATS, paths in turn", "unknown"),
    Deviation("lam between 0 and 1", "the nearer of two operating points", "unknown"),
)


def _smart(on: Benchmark) -> Recipe:
    name = f"smart_{on.suffix}"
    return Recipe(
        name=name,
        summary=f"SMART on {on.title}, each path with half of the weights",
        reproduces=f"arXiv 2302.03523, {on.title}, in FLOAT's setting; the paper's own was not recovered",
        expect="table not recovered; abstract: up to 2.72x fewer non-zero weights",
        settings={**paper_setting(on), "method": "smart", "method.density": 0.5},
        paper=SMART,
        deviations=(*_SMART_OPEN, authors.EVALUATION, *on.open),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )


SMART_RECIPES = tuple(_smart(on) for on in (CIFAR10, CIFAR100, STL10))
