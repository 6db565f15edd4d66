"""What a file of this package exports: a training method as a value. Its stages, its masks, its loss at every width.

A slimmable network's step adds up the loss of each width, widest first (Yu et al. 2019; OATS).
"""

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

#: (passes of the step, images in [0, 1], labels) -> loss and counts.
Objective = Callable[[StepContext, Tensor, Tensor], Outcome]


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


def sum_over_widths(objective: Callable[[StepContext, Tensor, Tensor, int], Outcome], num_widths: int) -> Objective:
    """The sum of an objective over all widths, in one backward and one optimiser step.

    Every width has its own attack, of its own random start, on the same images at the same lam. Counts add up too, so
    an accuracy in training is the mean over widths.
    """

    def summed(passes: StepContext, x: Tensor, y: Tensor) -> Outcome:
        outcomes = [objective(passes, x, y, width) for width in range(num_widths)]
        losses, tallies = zip(*outcomes, strict=True)
        return Outcome(torch.stack(losses).sum(), torch.stack(tallies).sum(0))

    return summed


def check_width_mults(width_mults: tuple[float, ...]) -> tuple[float, ...]:
    """`width_mults` as they are.

    Raises:
        ConfigError: not descending from 1: then some weights would belong to no network.
    """
    descending = all(wide > narrow for wide, narrow in pairwise(width_mults))
    if not width_mults or width_mults[0] != 1 or not descending:
        given = ",".join(f"{width_mult:g}" for width_mult in width_mults)
        raise ConfigError(f"method.width_mults={given}: must start with 1 and descend, such as 1,0.75,0.5")
    return width_mults


def _default_routing(options: Any) -> Routing:
    return Routing()


def _no_code(options: Any) -> Encoder | None:
    return None


def _full_width(options: Any) -> tuple[float, ...]:
    return (1.0,)


def _dense(config: Config, model: ConditionalModel) -> Sparsity | None:
    return None


def _whole_grid(config: Config) -> tuple[float, ...]:
    return config.eval.lam_grid


@dataclass(frozen=True)
class Method:
    """A training method. `fit` composes these parts and never asks which method it runs.

    Attributes:
        paper: citation with section, or "interpretation" where the paper does not settle it.
        layers: (options, shared BN statistics) to the parts the network is built from.
        objective: options to the loss of one step.
        sampler: options of the sampler the method uses unless told otherwise.
        default_grid: `eval.lam_grid` unless told otherwise.
        routing: options to how lam becomes a condition.
        lam_grid: the operating points that make sense for a trained network.
        encode: options to the module that encodes lam for FiLM, or None.
        widths: options to the width multipliers, widest first.
        sparsity: the masks of a run, or None for a dense network.
        stages: the stages of a run; None = one stage of `objective` over all epochs.
        trains: whether there is anything to train.
        reads_ra_loss: whether training follows the loss of validation images under attack.
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
    lam_grid: Callable[[Config], tuple[float, ...]] = _whole_grid
    encode: Callable[[Any], Encoder | None] = _no_code
    widths: Callable[[Any], tuple[float, ...]] = _full_width
    sparsity: Callable[[Config, ConditionalModel], Sparsity | None] = _dense
    stages: Callable[[Config], tuple[Stage, ...]] | None = None
    trains: bool = True
    reads_ra_loss: bool = False

    def has_two_paths(self, options: Any) -> bool:
        """Whether its networks have a standard and a robust path, which a dial can blend."""
        return hasattr(self.layers(options, False).norm(1), "two_paths")
