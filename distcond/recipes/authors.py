"""What the authors' code sets, by dotted path, as far as it is known, and how recipes differ from it.

A test compares every recipe's settings with those of its authors: a difference that no deviation lists fails.
"""

from __future__ import annotations

from typing import Any

from distcond.recipes.protocols import RAW_PIXELS, Benchmark
from distcond.recipes.recipe import Deviation

_STEP = 10 / 255 / 7

_SGD = {
    "optim.momentum": 0.9, "optim.nesterov": False, "optim.weight_decay": 5e-4, "optim.warmup": 0.0,
    "optim.averaging": 0.0, "optim.awp_gamma": 0.0, "label_smoothing": 0.0, "data.cutmix": 0.0, "data.augment": True,
    "epochs": 200, "batch_size": 128, "attack.norm": "Linf", "attack.epsilon": "8/255", "attack.random_start": True,
    "eval.attack_name": "pgd-last", "precision.train": "float32", "train_examples": 0,
}  # fmt: skip

#: Of OAT, FLOAT and what follows them.
ONCE_FOR_ALL: dict[str, Any] = {
    **_SGD, **RAW_PIXELS, "optim.lr": 0.1, "optim.schedule": "cosine", "attack.num_steps": 7, "attack.step_size": _STEP,
    "attack_mode": "eval", "drop_last": True, "eval.select": "each", "eval.every": 10,
    "eval.attack.num_steps": 7, "eval.attack.step_size": _STEP,
}  # fmt: skip
OAT: dict[str, Any] = {
    **ONCE_FOR_ALL, "method.encoding": "rand", "method.dim": 128, "method.lam_choices": "0,0.1,0.2,0.3,0.4,1",
    "method.dual_bn": True, "method.loss": "cross_entropy", "method.identity_start": False,
    "method.interpolate": False, "method.skip_clean_of_adversarial": False,
    "sampler.choices": "0,0.1,0.2,0.3,0.4,1", "sampler.share": "none", "sampler.batchwise": False,
}  # fmt: skip
#: Of the networks dedicated to one lam.
OAT_BASELINE: dict[str, Any] = {**ONCE_FOR_ALL, "batch_size": 256}
FLOAT: dict[str, Any] = {
    **ONCE_FOR_ALL, "method.alpha": 0.25, "method.alpha_by": "layer", "method.shared_alpha": False,
    "method.threshold": 0.0, "method.loss": "authors", "optim.no_decay": "", "sampler.share": 0.5,
}  # fmt: skip
FLOATS: dict[str, Any] = {
    **FLOAT, "method.density": 0.1, "method.drop_fraction": 0.5, "method.schedule": "linear", "method.by": "weight",
    "method.dense_noise": True,
}  # fmt: skip

#: Of Sparsity Winning Twice.
SPARSITY: dict[str, Any] = {
    **_SGD, "optim.lr": 0.1, "optim.schedule": "multistep", "optim.milestones": "0.5,0.75", "optim.drop_factor": 0.1,
    "attack.num_steps": 10, "attack.step_size": "2/255", "attack_mode": "train", "drop_last": False,
    "eval.select": "ra", "eval.every": 1, "eval.val_steps": 20, "eval.attack.num_steps": 20,
    "eval.attack.step_size": "2/255",
}  # fmt: skip
ROBUST_BIRD: dict[str, Any] = {
    **SPARSITY, "method.density": 0.2, "method.search": "standard", "method.queue_length": 5, "method.tolerance": 0.08,
}  # fmt: skip
FLYING_BIRD: dict[str, Any] = {
    **SPARSITY, "method.density": 0.2, "method.distribution": "igq", "method.growth": "random",
    "method.update_every": 900, "method.update_every_late": 1200, "method.drop_fraction": 0.5,
    "method.drop_fraction_end": 0.005, "method.schedule": "cosine",
}  # fmt: skip
FLYING_BIRD_PLUS: dict[str, Any] = {
    **FLYING_BIRD, "method.adapt_from": 0.5, "method.window": 4, "method.threshold": 0.5, "method.extra_drop": 0.4,
    "method.extra_grow": 0.05,
}  # fmt: skip


def on_benchmark(authors: dict[str, Any], benchmark: Benchmark) -> dict[str, Any]:
    """The authors' settings on a data set, without those that are not known there."""
    if benchmark.data == "svhn":
        return {path: value for path, value in authors.items() if path != "optim.lr"}
    return authors


SELECTION = Deviation(
    "selection",
    "one best checkpoint by the mean of SA and RA over lam",
    "one per lam and metric",
    {"eval.select": "each"},
)
EVALUATION = Deviation(
    "evaluation",
    "test images under PGD-20 with steps of 2/255",
    "validation images under PGD-7, the attack of training",
    {"eval.attack.num_steps": 7, "eval.attack.step_size": _STEP},
)
RANDOM_NUMBERS = Deviation("random numbers", "a function of seed, epoch and step", "one stream, in the order of use")
#: Of every recipe of OAT and FLOAT.
ONCE_FOR_ALL_DEVIATIONS = (SELECTION, EVALUATION, RANDOM_NUMBERS)

FLOAT_DEVIATIONS = (
    Deviation(
        "loss",
        "that of the paper's text, half of a batch clean and half attacked",
        "all of the batch clean, and the attacked half with half the weight",
        {"method.loss": "authors"},
    ),
    Deviation("weight decay", "none on alpha", "on alpha, too", {"optim.no_decay": ""}),
    Deviation("RA", "attack and network at the same lam", "both with full noise, whatever the lam"),
    *ONCE_FOR_ALL_DEVIATIONS,
)
DENSE_NOISE = Deviation("noise", "on kept weights only", "on dropped weights, too", {"method.dense_noise": True})
SLIMMABLE_LOOP = Deviation(
    "training loop", "that of slimmable networks, the losses of all widths in one step", "unknown, not published"
)

ATTACK_MODE = Deviation(
    "training attack", "on the network in eval mode", "in train mode, with statistics of the batch",
    {"attack_mode": "train"},
)  # fmt: skip
#: Of Flying Bird and Flying Bird+.
FLYING = (
    Deviation("layer densities at the start", "ERK", "IGQ", {"method.distribution": "igq"}),
    Deviation(
        "growth", "where the gradient is largest, as the text has it", "at random, by their scripts",
        {"method.growth": "random"},
    ),
)  # fmt: skip
SEARCH = Deviation(
    "search",
    "at most 60 epochs, a drop of the rate after 50",
    "unknown length, drops after 50 and 150 epochs by their scripts",
)
