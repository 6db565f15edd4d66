"""Every method at two small budgets: minutes on the digits, ten epochs of CIFAR-10 with ResNet-20 on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distcond.recipes.protocols import DIGITS, PGD7, PGD10, RAW_PIXELS, TEN_EPOCHS
from distcond.recipes.recipe import FLOAT, MADRY, OAT, SMART, SPARSITY_WINNING_TWICE, TRADES, Deviation, Paper, Recipe
from distcond.recipes.train_flops import TRAIN_FLOPS


@dataclass(frozen=True)
class _Small:
    """A method with its settings, expected results and run times on the digits and on CIFAR-10."""

    method: str
    paper: Paper | None
    title: str
    digits: dict[str, Any] = field(default_factory=dict)
    digits_expect: str = "not published"
    digits_ran: str = "not run here"
    digits_note: tuple[Deviation, ...] = ()
    cifar10: dict[str, Any] = field(default_factory=dict)
    cifar10_attack: dict[str, Any] = field(default_factory=lambda: PGD7)
    cifar10_expect: str = "not published"
    cifar10_ran: str = "not run here"


# With FiLM as in the paper, the small network of the digits, which has no shortcuts, learns so slowly at first that it
# ends 14 points of RA lower.
_IDENTITY = {"method.identity_start": True}
_IDENTITY_NOTE = (
    Deviation("FiLM", "starts as the identity", "starts with small random values", {"method.identity_start": False}),
)
_DIGITS = Deviation(
    "experiment",
    "8x8 digits, a small network, epsilon 0.25, 30 epochs, normalised pixels",
    "photographs; no paper trains on digits",
)
_CIFAR10 = Deviation("network and schedule", "ResNet-20, ten epochs of one cycle", "larger networks, 100 to 200 epochs")
_OFTEN, _EVERY_EPOCH = {"method.update_every": 20}, {"eval.every": 1}
_LESS_OFTEN = {"method.update_every": 50}

_METHODS = (
    _Small(
        "float", FLOAT, "FLOAT",
        digits_expect="not published; here, over five seeds, SA 98.9 to 96.0 %, RA 0.1 to 40.3 % along the dial "
        "(PGD-20, three restarts; docs/reports/dial_seeds.md)",
        digits_ran="one minute on two CPU cores, Ray's start included",
        cifar10_expect="not published; here, with normalised pixels, SA 83.5 / 67.7 %, RA 0.0 / 25.4 % at lam 0 / 1 "
        "(last iterate of PGD-20; docs/reports/results.md)",
        cifar10_ran="36 minutes of training and 17 of testing on two shared CPU cores (docs/reports/results.md)",
    ),
    _Small(
        "float_slim", FLOAT, "FLOAT slim at widths 1 and 0.5",
        digits_ran="one minute on one CPU core",
    ),
    _Small(
        "floats", FLOAT, "FLOATS at 30 % of the weights",
        digits={"method.density": 0.3}, cifar10={"method.density": 0.3},
    ),
    _Small(
        "oat", OAT, "OAT",
        digits=_IDENTITY, digits_note=_IDENTITY_NOTE,
        digits_ran="one minute on one CPU core",
    ),
    _Small(
        "oats", OAT, "OATS at widths 1, 0.75 and 0.5",
        digits=_IDENTITY, digits_note=_IDENTITY_NOTE,
        digits_ran="three minutes on one CPU core",
    ),
    _Small("smart", SMART, "SMART, each path with half of the weights,"),
    _Small(
        "robust_bird", SPARSITY_WINNING_TWICE, "Robust Bird at 20 % of the weights",
        digits={"method.search_epochs": 20}, cifar10={"method.search_epochs": 10}, cifar10_attack=PGD10,
    ),
    _Small(
        "flying_bird", SPARSITY_WINNING_TWICE, "Flying Bird at 20 % of the weights",
        digits=_OFTEN, cifar10=_LESS_OFTEN, cifar10_attack=PGD10,
    ),
    _Small(
        "flying_bird_plus", SPARSITY_WINNING_TWICE, "Flying Bird+ from 20 % of the weights",
        digits={**_OFTEN, **_EVERY_EPOCH}, digits_ran="about a minute on two CPU cores",
        cifar10={**_LESS_OFTEN, **_EVERY_EPOCH}, cifar10_attack=PGD10,
    ),
    _Small(
        "pgd_at", MADRY, "a network dedicated to sampler.lam (1 = adversarial, 0 = standard training)",
        digits_ran="one minute on two CPU cores, Ray's start included",
    ),
    _Small("trades", TRADES, "TRADES", cifar10_attack=PGD10),
    _Small("standard", None, "standard training, the SA to compare with,"),
)  # fmt: skip


def _digits(small: _Small) -> Recipe:
    name = f"{small.method}_digits"
    return Recipe(
        name=name,
        summary=f"{small.title} on 8x8 handwritten digits",
        reproduces="none; shows the method on images that need no download",
        expect=small.digits_expect,
        settings={**DIGITS, "method": small.method, **_dial(small), **small.digits},
        paper=small.paper,
        deviations=(*small.digits_note, _DIGITS),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
        ran=small.digits_ran,
    )


def _dial(small: _Small) -> dict[str, Any]:
    """Evaluate a method with two paths along a blend of them."""
    return {"eval.dial": "weights"} if small.paper in (OAT, FLOAT, SMART) else {}


def _cifar10(small: _Small) -> Recipe:
    name = f"{small.method}_cifar10_resnet20"
    raw = RAW_PIXELS if small.paper in (OAT, FLOAT, SMART) else {}
    return Recipe(
        name=name,
        summary=f"{small.title} on CIFAR-10 with ResNet-20 at a small budget",
        reproduces="none; the paper's loss and attack with a small network and a short one-cycle schedule",
        expect=small.cifar10_expect,
        settings={**small.cifar10_attack, **raw, **TEN_EPOCHS, "method": small.method, **small.cifar10},
        paper=small.paper,
        deviations=(_CIFAR10,),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
        ran=small.cifar10_ran,
    )


RECIPES = tuple(recipe(small) for small in _METHODS for recipe in (_digits, _cifar10))
