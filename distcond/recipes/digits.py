"""Embedded recipes: real handwritten digits, no download, minutes on a laptop."""

from __future__ import annotations

from distcond.recipes.recipe import Recipe

DIGITS = {
    "data": "digits",
    "model": "small_cnn",
    "epochs": 30,
    "batch_size": 64,
    "optim.lr": 0.1,
    "attack.epsilon": 0.2,
    "attack.step_size": 0.06,
    "attack.num_steps": 7,
    "eval.attack.epsilon": 0.2,
    "eval.attack.step_size": 0.025,
    "eval.attack.num_steps": 20,
    "eval.val_steps": 10,
    "eval.batch_size": 90,
    "eval.every": 5,
    "precision.train": "float32",
}

FLOAT_DIGITS = Recipe(
    name="float_digits",
    summary="the embedded default: FLOAT on 8x8 handwritten digits, about a minute on two cores",
    reproduces="none; shows FLOAT's trade-off (arXiv 2204.00426) on images that need no download",
    expect="not published; SA(lam=0) >= 95 %, RA(lam=1) at least 25 points above RA(lam=0)",
    cost="one minute on two CPU cores, Ray's start included",
    settings={"method": "float", **DIGITS},
)

PGD_AT_DIGITS = Recipe(
    name="pgd_at_digits",
    summary="a dedicated network on the digits at sampler.lam (1 = adversarial, 0 = standard training)",
    reproduces="none; Madry et al. 2018 on images that need no download",
    expect="not published",
    cost="one minute on two CPU cores, Ray's start included",
    settings={"method": "pgd_at", **DIGITS},
)
