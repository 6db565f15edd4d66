"""Recipe: a named set of settings over the defaults; and the papers that recipes reproduce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Assumed FLOP/s of one H100-class GPU in bf16 adversarial training of these networks. Not measured: airbench sustains
#: about 1.1e14 on an A100 in standard training, published logs of adversarial training give about 1.8e13; this value is
#: in between.
GPU_RATE = 5e13


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    key: str
    title: str
    arxiv: str  # identifier
    venue: str


class Deviation(NamedTuple):
    """One difference between a recipe and the experiment of its authors.

    Attributes:
        subject: what differs.
        here: what the recipe does.
        authors: what they do; "unknown" where neither text nor code says.
        settings: by dotted path, the authors' values where settings restore their way; empty = none does.
    """

    subject: str
    here: str
    authors: str
    settings: Mapping[str, Any] = {}

    def __str__(self) -> str:
        way = " ".join(f"{path}={_text(value)}" for path, value in self.settings.items())
        return f"{self.subject}: {self.here}; authors: {self.authors}" + (f" ({way})" if way else "")


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Recipe:
    """A named experiment.

    Attributes:
        name: METHOD_DATASET_MODEL, and of an ablation _VARIANT.
        summary: its line in `--list`.
        reproduces: the experiment of the paper that it repeats, and in which setting; or "none".
        expect: the published numbers, or "not published".
        settings: by dotted path, over the defaults.
        paper: source of the method or experiment; None = no paper.
        deviations: differences to the authors' experiment, also where text and code leave something open.
        authors: by dotted path, the authors' settings as far as they are known; a test compares them with `settings`
            and `deviations`.
        compared: the test that compares the recipe with the authors' code, if there are no deviations.
        variant: of an ablation, what it changes; "" = the experiment itself.
        train_flops: of all training, 2 per multiply-accumulate, without evaluation, as counted by
            `distcond.training.flops`; 0 = not counted.
        ran: hardware it was run on and the time it took.
    """

    name: str
    summary: str
    reproduces: str
    expect: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    paper: Paper | None = None
    deviations: tuple[Deviation, ...] = ()
    authors: Mapping[str, Any] = field(default_factory=dict)
    compared: str = ""
    variant: str = ""
    train_flops: float = 0.0
    ran: str = "not run here"

    @property
    def gpu_hours(self) -> float:
        """Training time on one GPU at `GPU_RATE`, in hours."""
        return self.train_flops / GPU_RATE / 3600

    @property
    def cost(self) -> str:
        """The cost of training as a line of text."""
        if not self.train_flops:
            return "not counted"
        hours = f"{self.gpu_hours:.2g} hours of one H100-class GPU at an assumed {GPU_RATE:.0e} FLOP/s in bf16"
        return f"{self.train_flops:.2e} FLOPs of training without evaluation: {hours}"


MADRY = Paper(
    "madry", "Towards Deep Learning Models Resistant to Adversarial Attacks", arxiv="1706.06083", venue="ICLR 2018"
)
TRADES = Paper(
    "trades",
    "Theoretically Principled Trade-off between Robustness and Accuracy",
    arxiv="1901.08573",
    venue="ICML 2019",
)
AWP = Paper(
    "awp", "Adversarial Weight Perturbation Helps Robust Generalization", arxiv="2004.05884", venue="NeurIPS 2020"
)
OAT = Paper(
    "oat",
    "Once-for-All Adversarial Training: In-Situ Tradeoff between Robustness and Accuracy for Free",
    arxiv="2010.11828",
    venue="NeurIPS 2020",
)
SPARSITY_WINNING_TWICE = Paper(
    "sparsity_winning_twice",
    "Sparsity Winning Twice: Better Robust Generalization from More Efficient Training",
    arxiv="2202.09844",
    venue="ICLR 2022",
)
FLOAT = Paper(
    "float",
    "FLOAT: Fast Learnable Once-for-All Adversarial Training for Tunable Trade-off between Accuracy and Robustness",
    arxiv="2204.00426",
    venue="WACV 2023",
)
SOLAR = Paper(
    "solar", "Switchable Output Layer for Accuracy and Robustness in Once-for-All Training", arxiv="2509.16833",
    venue="WACV 2026",
)  # fmt: skip
SMART = Paper(
    "smart",
    "Sparse Mixture Once-for-all Adversarial Training for Efficient In-Situ Trade-Off Between Accuracy and Robustness "
    "of DNNs",
    arxiv="2302.03523",
    venue="ICASSP 2023",
)
