"""Robust Bird, Flying Bird and Flying Bird+ at 80 % sparsity, and the dense baseline (arXiv 2202.09844).

method.density=0.1 is 90 % sparsity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from distcond.recipes.protocols import LAST_ITERATE, PGD10, join_notes
from distcond.recipes.recipe import SPARSITY_WINNING_TWICE, Recipe
from distcond.recipes.train_flops import TRAIN_FLOPS


class _Method(NamedTuple):
    title: str
    open: str
    settings: dict[str, Any]


#: The authors' scripts; 352 steps make an epoch of CIFAR-10.
_SCRIPTS = {"method.density": 0.2, "method.update_every": 900, "method.update_every_late": 1200}
_FLYING = "first layer densities (ERK) and growth by gradient, as the text has it; the authors' scripts grow at random"
_METHODS = {
    "pgd_at": _Method("PGD-AT, the dense baseline,", "", {}),
    "robust_bird": _Method("Robust Bird", "length and schedule of the search", {"method.density": 0.2}),
    "flying_bird": _Method("Flying Bird", _FLYING, _SCRIPTS),
    "flying_bird_plus": _Method("Flying Bird+", _FLYING, _SCRIPTS),
}
_ANY_DATA = "CIFAR-10 for this network, which the authors' code trains on any of its data sets"
_EVAL_MODE = "the training attack sees the network in eval mode, the authors' in train mode"


class _Table(NamedTuple):
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
    table: dict[str, _Table] = {}  # noqa: RUF012  never written
    open: str = ""


_BENCHMARKS = (
    _Benchmark("cifar10", "preact_resnet18", "CIFAR-10 with PreAct ResNet-18", {
        "pgd_at": _Table(51.10, 43.61, 81.15, 83.38, 38.82),
        "robust_bird": _Table(50.18, 46.10, 78.46, 82.42, 23.37),
        "flying_bird": _Table(51.62, 46.37, 80.55, 83.17, 28.90),
        "flying_bird_plus": _Table(51.70, 47.51, 80.74, 83.16, 23.89),
    }),
    _Benchmark("cifar100", "preact_resnet18", "CIFAR-100 with PreAct ResNet-18", {
        "pgd_at": _Table(26.93, 19.62, 52.03, 53.91, 54.56),
        "robust_bird": _Table(25.54, 20.82, 48.79, 53.33, 25.46),
        "flying_bird": _Table(26.64, 22.00, 53.57, 55.41, 27.46),
        "flying_bird_plus": _Table(26.66, 23.37, 52.29, 55.23, 20.12),
    }),
    _Benchmark("tiny_imagenet", "preact_resnet18", "Tiny-ImageNet with PreAct ResNet-18", {
        "pgd_at": _Table(20.84, 15.76, 43.57, 46.64, 36.84),
        "robust_bird": _Table(19.58, 16.45, 43.70, 46.30, 15.22),
        "flying_bird": _Table(20.34, 19.00, 45.95, 46.86, 14.93),
        "flying_bird_plus": _Table(20.36, 19.11, 45.67, 46.73, 13.24),
    }),
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
            **PGD10, **LAST_ITERATE, "data": on.data, "model": on.model, "method": method, "epochs": 200,
            "eval.val_steps": 20, "eval.every": 1, **how.settings,
        },
        paper=SPARSITY_WINNING_TWICE,
        interpretation=join_notes(_EVAL_MODE, how.open, on.open),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )  # fmt: skip


RECIPES = tuple(_recipe(method, on) for on in _BENCHMARKS for method in _METHODS)
