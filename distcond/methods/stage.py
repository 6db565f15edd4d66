"""Parts of a run that follow one another, and what a sparse method does between steps and epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from distcond.config.schema import OptimConfig
from distcond.methods.passes import Outcome, Passes

#: (passes of the step, images in [0, 1], labels) -> loss and counts.
Objective = Callable[[Passes, Tensor, Tensor], Outcome]


@dataclass(frozen=True)
class Stage:
    """Epochs with one loss, one optimiser and one learning-rate schedule; the next stage starts both anew."""

    name: str
    epochs: int  # at most; a stage ends early when the method's sparsity says so
    objective: Objective
    optim: OptimConfig


class Sparsity(Protocol):
    """Masks over a run. Every call happens on every rank with the same arguments and must decide the same there:
    decisions use reduced gradients, momenta or weights, and generators keyed by (seed, step, layer).
    """

    def start(self, stage: str) -> None:
        """At the beginning of a stage (not when one is resumed): make or fix masks, apply them to the weights."""

    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """After each optimiser update; the reduced gradients are still there.

        `done` is the share of the stage behind us in (0, 1], `step` counts the updates of the whole run from 1.
        """

    def after_epoch(self, record: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> bool:
        """After each epoch's validation, with its history record; True ends the stage here."""

    def report(self) -> dict[str, float]:
        """What the masks are now: at least "density" (kept share of the maskable weights)."""

    def state_dict(self) -> dict[str, Any]:
        """All that the ranks share, masks and histories included, as tensors and plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""

    def own_state(self) -> dict[str, Tensor]:
        """What differs between ranks in the middle of an epoch, such as sums of their own gradients."""

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `own_state`, or from its mean over the ranks of another world."""
