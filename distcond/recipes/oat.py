"""OAT, OATS and the dedicated networks they are compared with (arXiv 2010.11828)."""

from __future__ import annotations

from distcond.recipes.papers import OAT
from distcond.recipes.protocols import CIFAR10, DIFFERS, STL10, SVHN, Benchmark, decided, paper_setting
from distcond.recipes.recipe import Recipe
from distcond.recipes.train_flops import TRAIN_FLOPS

_EXPECT = "table not recovered; abstract: as good as or better than a dedicated PGD-AT network at every lam"
_LOOP = (
    "the training loop, which the authors did not publish: that of slimmable networks; of those they published ResNets "
    "only"
)
_SETTING = "SGD 0.9, cosine, 200 epochs, batch 128, PGD-7"


def _oat(on: Benchmark) -> Recipe:
    name = f"oat_{on.suffix}"
    return Recipe(
        name=name,
        summary=f"OAT on {on.title} in the authors' setting",
        reproduces=f"arXiv 2010.11828, one network for every lam, {on.title}: {_SETTING}, RAND codes of 128",
        expect=_EXPECT,
        settings={**paper_setting(on), "method": "oat"},
        paper=OAT,
        interpretation=decided(DIFFERS, on.open),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )


def _oats(on: Benchmark) -> Recipe:
    name = f"oats_{on.suffix}"
    return Recipe(
        name=name,
        summary=f"OATS on {on.title} at widths 1, 0.75 and 0.5",
        reproduces=f"arXiv 2010.11828, one network for every lam and width, {on.title}: {_SETTING}, RAND codes of 128",
        expect="table not recovered; abstract: as good as or better than dedicated networks",
        settings={**paper_setting(on), "method": "oats"},
        paper=OAT,
        interpretation=decided(_LOOP, DIFFERS, on.open),
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
        interpretation=decided(DIFFERS, on.open),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )


RECIPES = tuple(recipe(on) for recipe in (_oat, _oats, _dedicated) for on in (CIFAR10, SVHN, STL10))
