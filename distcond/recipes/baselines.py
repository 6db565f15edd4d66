"""Baselines on CIFAR-10 with ResNet-18, each a network with one trade-off: TRADES, PGD-AT, AWP, standard training."""

from __future__ import annotations

from typing import Any, NamedTuple

from distcond.recipes.protocols import LAST_ITERATE, PGD7, PGD10
from distcond.recipes.recipe import AWP, MADRY, TRADES, Deviation, Paper, Recipe
from distcond.recipes.train_flops import TRAIN_FLOPS

_RESNET18 = {"data": "cifar10", "model": "resnet18"}

TRADES_CIFAR10_RESNET18 = Recipe(
    name="trades_cifar10_resnet18",
    summary="TRADES on CIFAR-10 with ResNet-18: beta 6, drops at 75 and 90",
    reproduces="arXiv 1901.08573, CIFAR-10: beta 6, PGD-10 of 0.007 in 0.031, decay 2e-4, 100 epochs",
    expect="published elsewhere for ResNet-18: 49.5 % under AutoAttack",
    settings={
        **PGD10, **LAST_ITERATE, **_RESNET18, "method": "trades", "epochs": 100, "eval.every": 5,
        "optim.milestones": (0.75, 0.9), "optim.weight_decay": 2e-4, "attack.epsilon": 0.031, "attack.step_size": 0.007,
    },
    paper=TRADES,
    deviations=(
        Deviation("network", "ResNet-18", "WRN-34-10", {"model": "wrn34_10"}),
        Deviation("start of the attack", "uniform within epsilon", "normal with deviation 0.001 around the image"),
    ),
    train_flops=TRAIN_FLOPS.get("trades_cifar10_resnet18", 0.0),
)  # fmt: skip

STANDARD_CIFAR10_RESNET18 = Recipe(
    name="standard_cifar10_resnet18",
    summary="standard training on CIFAR-10 with ResNet-18",
    reproduces="none; a reference for SA in the setting of the adversarial recipes",
    expect="about 95 % SA is common for this network and schedule",
    settings={**PGD7, **_RESNET18, "method": "standard", "epochs": 200, "eval.every": 10},
    deviations=(Deviation("experiment", "standard training as a reference", "none; not of a paper"),),
    train_flops=TRAIN_FLOPS.get("standard_cifar10_resnet18", 0.0),
)


class _Averaged(NamedTuple):
    prefix: str
    method: str
    title: str
    paper: Paper
    autoattack: float
    settings: dict[str, Any]


_AVERAGED = (
    _Averaged("pgd_at", "pgd_at", "PGD-AT", MADRY, 48.7, {}),
    _Averaged("trades", "trades", "TRADES", TRADES, 49.5, {}),
    _Averaged("awp", "pgd_at", "PGD-AT with adversarial weight perturbation", AWP, 50.8, {"optim.awp_gamma": 0.01}),
)


def _averaged(baseline: _Averaged) -> Recipe:
    name = f"{baseline.prefix}_cifar10_resnet18_averaged"
    return Recipe(
        name=name,
        summary=f"{baseline.title} on CIFAR-10 with ResNet-18: weights averaged, one-cycle",
        reproduces=f"arXiv {baseline.paper.arxiv}, its loss and PGD-10 on a short schedule with averaged weights",
        expect=f"published elsewhere for a longer run without averaging: {baseline.autoattack} % under AutoAttack",
        settings={
            **PGD10, **_RESNET18, "method": baseline.method, "epochs": 30, "eval.every": 5,
            "optim.schedule": "onecycle", "optim.lr": 0.2, "optim.warmup": 0.3, "optim.averaging": 0.995,
            **baseline.settings,
        },
        paper=baseline.paper,
        deviations=(
            Deviation(
                "schedule and averaging", "30 epochs of one cycle with averaged weights", "longer, without averaging"
            ),
        ),
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )  # fmt: skip


RECIPES = tuple(_averaged(baseline) for baseline in _AVERAGED)
