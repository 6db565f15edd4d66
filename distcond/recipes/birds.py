"""Robust Bird, Flying Bird and Flying Bird+: sparse adversarial training (arXiv 2202.09844).

The paper trains a pre-activation ResNet-18; here it is the post-activation one. Interpretation: length and schedule of
Robust Bird's search, first layer densities of the Flying Birds.
"""

from __future__ import annotations

from distcond.recipes.cifar10 import CIFAR10_PGD10, TEN_EPOCHS
from distcond.recipes.digits import DIGITS
from distcond.recipes.recipe import Recipe

_PAPER = {**CIFAR10_PGD10, "model": "resnet18", "epochs": 200, "eval.val_steps": 20, "eval.every": 1}
_SHORT = {**CIFAR10_PGD10, **TEN_EPOCHS}
_REPRODUCES = "arXiv 2202.09844, CIFAR-10 with ResNet-18 at 80 % sparsity: PGD-10, 200 epochs, drops at 100 and 150"
_DIGITS_NOTE = "none; shows the method (arXiv 2202.09844) on images that need no download"
_SHORT_NOTE = "none; the paper's loss with a small network and a short schedule"
# The authors' scripts; 352 steps make an epoch of CIFAR-10.
_SCRIPTS = {"method.update_every": 900, "method.update_every_late": 1200}

ROBUST_BIRD_DIGITS = Recipe(
    name="robust_bird_digits",
    summary="Robust Bird on the digits at 20 % of the weights",
    reproduces=_DIGITS_NOTE,
    expect="not published",
    cost="under a minute on two CPU cores",
    settings={**DIGITS, "method": "robust_bird", "method.search_epochs": 20},
)

FLYING_BIRD_DIGITS = Recipe(
    name="flying_bird_digits",
    summary="Flying Bird on the digits at 20 % of the weights",
    reproduces=_DIGITS_NOTE,
    expect="not published",
    cost="under a minute on two CPU cores",
    settings={**DIGITS, "method": "flying_bird", "method.update_every": 20},
)

FLYING_BIRD_PLUS_DIGITS = Recipe(
    name="flying_bird_plus_digits",
    summary="Flying Bird+ on the digits, from 20 % of the weights",
    reproduces=_DIGITS_NOTE,
    expect="not published",
    cost="about a minute on two CPU cores",
    settings={**DIGITS, "method": "flying_bird_plus", "method.update_every": 20, "eval.every": 1},
)

ROBUST_BIRD_CIFAR10_RESNET18 = Recipe(
    name="robust_bird_cifar10_resnet18",
    summary="Robust Bird on CIFAR-10 with ResNet-18 at the paper's setting",
    reproduces=_REPRODUCES,
    expect="authors' table: RA 50.18 best and 46.10 last, SA 78.46 and 82.42",
    cost="not run here",
    settings={**_PAPER, "method": "robust_bird"},
)

FLYING_BIRD_CIFAR10_RESNET18 = Recipe(
    name="flying_bird_cifar10_resnet18",
    summary="Flying Bird on CIFAR-10 with ResNet-18 at the paper's setting",
    reproduces=_REPRODUCES,
    expect="authors' table: RA 51.62 best and 46.37 last, SA 80.55 and 83.17",
    cost="not run here",
    settings={**_PAPER, "method": "flying_bird", **_SCRIPTS},
)

FLYING_BIRD_PLUS_CIFAR10_RESNET18 = Recipe(
    name="flying_bird_plus_cifar10_resnet18",
    summary="Flying Bird+ on CIFAR-10 with ResNet-18 at the paper's setting",
    reproduces=_REPRODUCES,
    expect="authors' table: RA 51.70 best and 47.51 last, SA 80.74 and 83.16",
    cost="not run here",
    settings={**_PAPER, "method": "flying_bird_plus", **_SCRIPTS},
)

ROBUST_BIRD_CIFAR10_RESNET20 = Recipe(
    name="robust_bird_cifar10_resnet20",
    summary="Robust Bird on CIFAR-10 with ResNet-20: a search of at most 10 epochs, then 10 epochs, one-cycle",
    reproduces=_SHORT_NOTE,
    expect="not published",
    cost="not run here",
    settings={**_SHORT, "method": "robust_bird", "method.search_epochs": 10},
)

FLYING_BIRD_CIFAR10_RESNET20 = Recipe(
    name="flying_bird_cifar10_resnet20",
    summary="Flying Bird on CIFAR-10 with ResNet-20: 10 epochs, one-cycle",
    reproduces=_SHORT_NOTE,
    expect="not published",
    cost="not run here",
    settings={**_SHORT, "method": "flying_bird", "method.update_every": 50},
)

FLYING_BIRD_PLUS_CIFAR10_RESNET20 = Recipe(
    name="flying_bird_plus_cifar10_resnet20",
    summary="Flying Bird+ on CIFAR-10 with ResNet-20: 10 epochs, one-cycle",
    reproduces=_SHORT_NOTE,
    expect="not published",
    cost="not run here",
    settings={**_SHORT, "method": "flying_bird_plus", "method.update_every": 50, "eval.every": 1},
)
