"""Robust Bird, Flying Bird and Flying Bird+ at 80 % sparsity, and the dense baseline (arXiv 2202.09844).

method.density=0.1 is 90 % sparsity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from distcond.recipes import authors
from distcond.recipes.protocols import FLOAT32, LAST_ITERATE, PGD10
from distcond.recipes.recipe import SPARSITY_WINNING_TWICE, Deviation, Recipe
from distcond.recipes.train_flops import TRAIN_FLOPS


class _Method(NamedTuple):
    title: str
    open: tuple[Deviation, ...]
    settings: dict[str, Any]
    authors: dict[str, Any]


#: The authors' scripts; 352 steps make an epoch of CIFAR-10.
_SCRIPTS = {"method.density": 0.2, "method.update_every": 900, "method.update_every_late": 1200}
_METHODS = {
    "pgd_at": _Method("PGD-AT, the dense baseline,", (), {}, authors.SPARSITY),
    "robust_bird": _Method("Robust Bird", (authors.SEARCH,), {"method.density": 0.2}, authors.ROBUST_BIRD),
    "flying_bird": _Method("Flying Bird", authors.FLYING, _SCRIPTS, authors.FLYING_BIRD),
    "flying_bird_plus": _Method("Flying Bird+", authors.FLYING, _SCRIPTS, authors.FLYING_BIRD_PLUS),
}
_ANY_DATA = (
    Deviation("data set", "CIFAR-10 for this network", "unknown, their code trains it on any of its data sets"),
)
_ALL_IMAGES = {"cifar10": 45_000, "cifar100": 45_000, "tiny_imagenet": 90_000}
_OWN_SPLIT = Deviation(
    "validation images", "50 of every class, drawn once", "10,000 drawn from all, with their seed 10"
)


class PublishedRow(NamedTuple):
    """A row of the authors' table, in %: RA and SA at best and last, robust generalisation gap."""

    ra_best: float
    ra_last: float
    sa_best: float
    sa_last: float
    gap: float

    def __str__(self) -> str:
        return (
            f"authors' table: RA {self.ra_best:.2f} best and {self.ra_last:.2f} last, SA {self.sa_best:.2f} and "
            f"{self.sa_last:.2f}, robust generalisation gap {self.gap:.2f}"
        )


class _Benchmark(NamedTuple):
    data: str
    model: str
    title: str
    table: dict[str, PublishedRow] = {}  # noqa: RUF012  never written
    open: tuple[Deviation, ...] = ()


_BENCHMARKS = (
    _Benchmark("cifar10", "preact_resnet18", "CIFAR-10 with PreAct ResNet-18", {
        "pgd_at": PublishedRow(51.10, 43.61, 81.15, 83.38, 38.82),
        "robust_bird": PublishedRow(50.18, 46.10, 78.46, 82.42, 23.37),
        "flying_bird": PublishedRow(51.62, 46.37, 80.55, 83.17, 28.90),
        "flying_bird_plus": PublishedRow(51.70, 47.51, 80.74, 83.16, 23.89),
    }),
    _Benchmark("cifar100", "preact_resnet18", "CIFAR-100 with PreAct ResNet-18", {
        "pgd_at": PublishedRow(26.93, 19.62, 52.03, 53.91, 54.56),
        "robust_bird": PublishedRow(25.54, 20.82, 48.79, 53.33, 25.46),
        "flying_bird": PublishedRow(26.64, 22.00, 53.57, 55.41, 27.46),
        "flying_bird_plus": PublishedRow(26.66, 23.37, 52.29, 55.23, 20.12),
    }),
    _Benchmark("tiny_imagenet", "preact_resnet18", "Tiny-ImageNet with PreAct ResNet-18", {
        "pgd_at": PublishedRow(20.84, 15.76, 43.57, 46.64, 36.84),
        "robust_bird": PublishedRow(19.58, 16.45, 43.70, 46.30, 15.22),
        "flying_bird": PublishedRow(20.34, 19.00, 45.95, 46.86, 14.93),
        "flying_bird_plus": PublishedRow(20.36, 19.11, 45.67, 46.73, 13.24),
    }, (_OWN_SPLIT,)),
    _Benchmark("cifar10", "vgg16_bn", "CIFAR-10 with VGG-16", open=_ANY_DATA),
    _Benchmark("cifar10", "wrn34_10", "CIFAR-10 with WRN-34-10", open=_ANY_DATA),
)  # fmt: skip


def _recipe(method: str, on: _Benchmark) -> Recipe:
    name, how = f"{method}_{on.data}_{on.model}", _METHODS[method]
    sparse = "" if method == "pgd_at" else " at 80 % sparsity"
    return Recipe(
        name=name,
        summary=f"{how.title} on {on.title}{sparse}",
        reproduces=f"arXiv 2202.09844, {on.title}{sparse}: PGD-10, 200 epochs, drops at 100 and 150",
        expect=str(on.table[method]) if on.table else "table not recovered",
        settings={
            **PGD10, **LAST_ITERATE, **FLOAT32, "data": on.data, "model": on.model, "method": method, "epochs": 200,
            "drop_last": False, "eval.val_steps": 20, "eval.every": 1, "eval.select": "ra",
            "eval.train_examples": _ALL_IMAGES[on.data], **how.settings,
        },
        paper=SPARSITY_WINNING_TWICE,
        deviations=(authors.ATTACK_MODE, *how.open, authors.RANDOM_NUMBERS, *on.open),
        authors={**how.authors, "eval.train_examples": _ALL_IMAGES[on.data]},
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )  # fmt: skip


def published_row(recipe: str) -> PublishedRow | None:
    """The authors' figures for a recipe's experiment; None where their table has none."""
    rows = {f"{method}_{on.data}_{on.model}": row for on in _BENCHMARKS for method, row in on.table.items()}
    return rows.get(recipe)


RECIPES = tuple(_recipe(method, on) for on in _BENCHMARKS for method in _METHODS)
