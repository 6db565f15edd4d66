"""The `Method` value that each file of this package exports, the `Sparsity` protocol, and losses over widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from distcond.config.schema import Config, EvalConfig, OptimConfig, Options
from distcond.errors import ConfigError
from distcond.layers.condition import Routing
from distcond.layers.encode import Encoder
from distcond.layers.layer_set import LayerSet
from distcond.methods.step_context import Outcome, StepContext
from distcond.models.conditional import ConditionalModel

#: (step, images in [0, 1], labels) -> loss and counts.
Objective = Callable[[StepContext, Tensor, Tensor], Outcome]


@dataclass(frozen=True)
class Stage:
    """Epochs with one loss, optimiser and learning-rate schedule; the next stage starts with new ones."""

    name: str
    epochs: int  # at most; `Sparsity.after_epoch` may end a stage early
    objective: Objective
    optim: OptimConfig


class Sparsity(Protocol):
    """The masks of a run. Every rank makes the same calls with the same arguments and must take the same decisions:
    use reduced gradients, momenta or weights, and generators keyed by (seed, step, layer).
    """

    def start(self, stage: str) -> None:
        """Called at the start of a stage, but not on resume: create or fix masks and apply them to the weights."""

    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """Called after each optimiser update, while the reduced gradients are still there.

        `done` is the finished share of the stage in (0, 1]; `step` counts the updates of the complete run from 1.
        """

    def after_epoch(self, record: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> bool:
        """Called after each epoch's validation with its history record; True ends the stage."""

    def report(self) -> dict[str, float]:
        """Current numbers for the history: at least "density" (kept share of the maskable weights)."""

    def state_dict(self) -> dict[str, Any]:
        """State that all ranks share, such as masks and histories, as tensors and plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`."""

    def rank_state(self) -> dict[str, Tensor]:
        """State that differs between ranks within an epoch, such as sums of their gradients."""

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from `rank_state`, or from its mean over ranks if their number changed."""


def sum_over_widths(objective: Callable[[StepContext, Tensor, Tensor, int], Outcome], num_widths: int) -> Objective:
    """Sum an objective over all widths, widest first, in one step (Yu et al. 2019; OATS).

    Every width has its own attack with its own random start, on the same images at the same lam. Counts are summed too,
    so training accuracies are means over widths.
    """

    def summed(step: StepContext, x: Tensor, y: Tensor) -> Outcome:
        outcomes = [objective(step, x, y, width) for width in range(num_widths)]
        losses, counts = zip(*outcomes, strict=True)
        return Outcome(torch.stack(losses).sum(), torch.stack(counts).sum(0))

    return summed


def check_width_mults(width_mults: tuple[float, ...]) -> tuple[float, ...]:
    """Return `width_mults` if they descend from 1.

    Raises:
        ConfigError: they do not; some weights would then belong to no network.
    """
    descending = all(wide > narrow for wide, narrow in pairwise(width_mults))
    if not width_mults or width_mults[0] != 1 or not descending:
        text = ",".join(f"{width_mult:g}" for width_mult in width_mults)
        raise ConfigError(f"method.width_mults={text}: must start with 1 and descend, such as 1,0.75,0.5")
    return width_mults


def _default_routing(options: Any) -> Routing:
    return Routing()


def _no_code(options: Any) -> Encoder | None:
    return None


def _full_width(options: Any) -> tuple[float, ...]:
    return (1.0,)


def _dense(config: Config, model: ConditionalModel) -> Sparsity | None:
    return None


def _configured_grid(config: Config) -> tuple[float, ...]:
    return config.eval.lam_grid


@dataclass(frozen=True)
class Method:
    """A training method. Training composes these parts and never branches on the method.

    Attributes:
        paper: citation with section, or "interpretation" where the paper leaves it open.
        layers: (options, shared BN statistics) -> the layers of the network.
        objective: options -> the loss of one step.
        sampler: default sampler options.
        default_grid: default of `eval.lam_grid`.
        routing: options -> how lam becomes a condition.
        lam_grid: config -> the lams to evaluate.
        encode: options -> the encoder of lam for FiLM, or None.
        widths: options -> the width multipliers, widest first.
        sparsity: (config, model) -> the masks of a run, or None for a dense network.
        stages: config -> the stages of a run; None = one stage of `objective` over all epochs.
        trains: whether the method trains at all.
        reads_ra_loss: whether training needs the adversarial loss of validation.
    """

    name: str
    summary: str
    paper: str
    options: Options
    layers: Callable[[Any, bool], LayerSet]
    objective: Callable[[Any], Objective]
    sampler: Options
    default_grid: tuple[float, ...] = EvalConfig.lam_grid
    routing: Callable[[Any], Routing] = _default_routing
    lam_grid: Callable[[Config], tuple[float, ...]] = _configured_grid
    encode: Callable[[Any], Encoder | None] = _no_code
    widths: Callable[[Any], tuple[float, ...]] = _full_width
    sparsity: Callable[[Config, ConditionalModel], Sparsity | None] = _dense
    stages: Callable[[Config], tuple[Stage, ...]] | None = None
    trains: bool = True
    reads_ra_loss: bool = False

    def has_two_paths(self, options: Any) -> bool:
        """Whether its networks have a clean and an adversarial path, which a dial can blend."""
        return bool(getattr(self.layers(options, False).norm(1), "two_paths", False))
