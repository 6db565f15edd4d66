"""The tables and ablations of the papers as networks to train, at a paper's scale or at small ones.

Published figures are those of recipes alone. Of OAT, FLOAT and SMART only the claims of their abstracts were recovered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.recipes.recipe import FLOAT, OAT, SMART, SPARSITY_WINNING_TWICE, Paper
from distcond.recipes.sparsity_winning_twice import PublishedRow, published_row
from distcond.registry import describe_unknown, table

#: From minutes on two cores to the experiment itself.
SCALES = ("digits", "cifar_small", "paper")
NOT_PUBLISHED, NOT_RECOVERED = "not published", "not recovered"


class Network(NamedTuple):
    """One network of a table.

    Attributes:
        label: its line.
        method: whose recipe at the scale it starts from.
        settings: changes to that recipe at every scale.
        digits: further changes at scale=digits.
    """

    label: str
    method: str
    settings: Mapping[str, Any] = {}
    digits: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Table:
    """The table of a paper.

    Attributes:
        paper: which.
        claims: what its text claims, one line each.
        networks: its lines.
        benchmarks: short name -> suffix of the recipes at scale=paper; the first is the default.
    """

    paper: Paper
    claims: tuple[str, ...]
    networks: tuple[Network, ...]
    benchmarks: Mapping[str, str]


_ONE_BN = {"method.dual_bn": False}
_FIXED = {"method.drop_fraction": 0.0}
_WIDTHS = {"method.width_mults": "1,0.75,0.5"}
_OAT = (
    Network("OAT", "oat"),
    Network("OAT, one BN", "oat", _ONE_BN),
    Network("OAT, one lam per batch", "oat", {"sampler.batchwise": True}),
    Network("OATS", "oats"),
    Network("PGD-AT, slimmable, lam 1", "pgd_at", _WIDTHS),
)
_DEDICATED = tuple(Network(f"PGD-AT, lam {lam:g}", "pgd_at", {"sampler.lam": lam}) for lam in (0.0, 0.2, 1.0))
_FLOAT = (
    Network("FLOAT", "float"),
    Network("FLOAT, authors' loss", "float", {"method.loss": "authors", "optim.no_decay": ""}),
    Network("FLOAT, amplitude per channel", "float", {"method.alpha_by": "channel"}),
    Network("FLOAT slim", "float_slim"),
    Network("FLOATS", "floats"),
    Network("OAT", "oat"),
    Network("PGD-AT, lam 1", "pgd_at", {"sampler.lam": 1.0}),
)
_SMART = (
    Network("SMART", "smart"),
    Network("SMART, fixed masks, overlap 0 %", "smart", {**_FIXED, "method.overlap": 0.0}),
    Network("SMART, fixed masks, overlap 50 %", "smart", {**_FIXED, "method.overlap": 0.5}),
    Network("SMART, fixed masks, overlap 100 %", "smart", {**_FIXED, "method.overlap": 1.0}),
    Network("FLOAT", "float"),
)
#: The rate drops of the paper, and a checkpoint chosen as theirs; RA of all training images for the gap.
_DROPS = {"optim.schedule": "multistep", "optim.milestones": "0.5,0.75", "eval.select": "ra", "eval.every": 1}
_SPARSE = tuple(
    Network(label, method, {"eval.select": "ra", "eval.every": 1}, {**_DROPS, "eval.train_examples": 2000})
    for label, method in (
        ("PGD-AT, dense", "pgd_at"),
        ("Robust Bird", "robust_bird"),
        ("Flying Bird", "flying_bird"),
        ("Flying Bird+", "flying_bird_plus"),
    )
)

TABLES = {
    "oat": Table(
        OAT,
        (
            "as good as or better than a dedicated PGD-AT network at every lam (abstract)",
            "one normalisation for all lam costs accuracy (section 3.2)",
        ),
        (*_OAT, *_DEDICATED),
        {"cifar10": "cifar10_resnet34", "svhn": "svhn_wrn16_8", "stl10": "stl10_wrn40_2"},
    ),
    "float": Table(
        FLOAT,
        (
            "up to 6 % SA and 10 % RA better than OAT (abstract)",
            "up to 1.43x less training time and 1.47x fewer parameters than OAT (abstract)",
        ),
        _FLOAT,
        {"cifar10": "cifar10_resnet34", "svhn": "svhn_wrn16_8", "stl10": "stl10_wrn40_2"},
    ),
    "smart": Table(
        SMART,
        ("up to 2.72x fewer non-zero weights (abstract)",),
        _SMART,
        {"cifar10": "cifar10_resnet34", "cifar100": "cifar100_resnet34", "stl10": "stl10_wrn40_2"},
    ),
    "sparsity_winning_twice": Table(
        SPARSITY_WINNING_TWICE,
        (
            "CIFAR-100: robust generalisation gap 34.44 and robust overfitting 4.02 points lower, with 87.83 % fewer "
            "FLOPs in training and 87.82 % in inference (abstract)",
        ),
        _SPARSE,
        {
            "cifar10": "cifar10_preact_resnet18",
            "cifar100": "cifar100_preact_resnet18",
            "tiny_imagenet": "tiny_imagenet_preact_resnet18",
        },
    ),
}


def table_of(paper: str) -> Table:
    """The table of a paper.

    Raises:
        ConfigError: no such paper.
    """
    if paper not in TABLES:
        raise ConfigError(describe_unknown("paper", paper, TABLES))
    return TABLES[paper]


def recipe_name(of: Table, network: Network, scale: str, on: str) -> str:
    """The recipe that a network starts from.

    Raises:
        ConfigError: no such scale or benchmark.
    """
    if scale not in SCALES:
        raise ConfigError(describe_unknown("value for scale", scale, SCALES))
    if on not in of.benchmarks:
        raise ConfigError(describe_unknown("value for on", on, of.benchmarks))
    suffix = {"digits": "digits", "cifar_small": "cifar10_resnet20", "paper": of.benchmarks[on]}[scale]
    name = f"{network.method}_{suffix}"
    if name not in table("recipe"):
        raise ConfigError(f"on={on}: {network.label} has no recipe {name}; name the others with only=")
    return name


def config_of(of: Table, network: Network, scale: str, on: str, overrides: Mapping[str, Any]) -> Config:
    """The run of a network: its recipe, its changes, those of the scale, and `overrides`.

    Raises:
        ConfigError: no such scale or benchmark, or an invalid override.
    """
    return resolve(recipe_name(of, network, scale, on), {**changes_of(network, scale), **overrides})


def changes_of(network: Network, scale: str) -> dict[str, Any]:
    """What a network changes in its recipe at a scale."""
    # The papers switch between lam; the digits' recipes blend the two paths.
    small = {"launch": "local", "eval.dial": "switch", **network.digits} if scale == "digits" else {}
    return {**small, **network.settings}


def published(of: Table, network: Network, scale: str, on: str) -> PublishedRow | str:
    """The published figures of a network, or why there are none."""
    if scale != "paper":
        return NOT_PUBLISHED
    return published_row(recipe_name(of, network, scale, on)) or NOT_RECOVERED
