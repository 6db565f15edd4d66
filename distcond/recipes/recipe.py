"""A recipe: settings by dotted path over the defaults, the same form the command line and Tune use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: FLOPs a second that one H100-class GPU is taken to sustain in bf16 adversarial training of these networks. Stated,
#: not measured here: airbench sustains about 1.1e14 on an A100 in standard training, the published logs of adversarial
#: training work out at about 1.8e13; this is the middle of the two.
GPU_RATE = 5e13


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    key: str
    title: str
    arxiv: str  # identifier
    venue: str


@dataclass(frozen=True)
class Recipe:
    """A named experiment.

    Attributes:
        name: METHOD_DATASET_MODEL.
        summary: its line in `--list`.
        reproduces: the experiment of the paper that it repeats and the setting it is faithful to, or "none".
        expect: the published figure, or "not published".
        settings: by dotted path, over the defaults.
        paper: whose method or experiment it is; None = of no paper.
        interpretation: what the paper and its code leave open or do otherwise, as it is settled here; "" = nothing.
        train_flops: of the whole training, 2 per multiply-accumulate, evaluation left out, as
            `distcond.engine.budget` counts them; 0 = not counted.
        ran: where it was run, and how long that took.
    """

    name: str
    summary: str
    reproduces: str
    expect: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    paper: Paper | None = None
    interpretation: str = ""
    train_flops: float = 0.0
    ran: str = "not run here"

    @property
    def gpu_hours(self) -> float:
        """Hours of one GPU at `GPU_RATE`."""
        return self.train_flops / GPU_RATE / 3600

    @property
    def cost(self) -> str:
        """The cost of training in words."""
        if not self.train_flops:
            return "not counted"
        hours = f"{self.gpu_hours:.2g} hours of one H100-class GPU at an assumed {GPU_RATE:.0e} FLOP/s"
        return f"{self.train_flops:.2e} FLOPs of training without evaluation: {hours}"
