"""What a file of this room exports: a training method as a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from distcond.condition import Routing
from distcond.config.schema import Config, Options
from distcond.layers.layer_set import LayerSet
from distcond.methods.passes import Outcome, Passes

#: (passes of the step, images in [0, 1], labels) -> loss and counts.
Objective = Callable[[Passes, Tensor, Tensor], Outcome]


def _always_zero_threshold(options: Any) -> Routing:
    return Routing()


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
        routing: options to how lam becomes a condition.
        lam_grid: the operating points that make sense for a trained network.
    """

    name: str
    summary: str
    paper: str
    options: Options
    layers: Callable[[Any, bool], LayerSet]
    objective: Callable[[Any], Objective]
    sampler: Options
    routing: Callable[[Any], Routing] = _always_zero_threshold
    lam_grid: Callable[[Config], tuple[float, ...]] = _whole_grid
