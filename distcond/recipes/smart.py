"""SMART: a clean and an adversarial mask over one weight (arXiv 2302.03523)."""

from __future__ import annotations

from distcond.recipes.papers import SMART
from distcond.recipes.protocols import CIFAR10, CIFAR100, DIFFERS, STL10, Benchmark, decided, paper_setting
from distcond.recipes.recipe import Recipe
from distcond.recipes.train_flops import TRAIN_FLOPS

_OPEN = (
    "nearly all of it, the paper's text was not at hand: FLOAT's data sets, networks and training, the density of 0.5, "
    "how the masks learn, and that lam between 0 and 1 means the nearer of two operating points"
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
        interpretation=decided(_OPEN, DIFFERS, on.open),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )


RECIPES = tuple(_smart(on) for on in (CIFAR10, CIFAR100, STL10))
