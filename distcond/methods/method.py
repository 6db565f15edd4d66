"""What a file of this room exports: a training method as a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distcond.condition import Routing
from distcond.config.schema import Config, EvalConfig, Options
from distcond.layers.encode import Encoder
from distcond.layers.layer_set import LayerSet
from distcond.methods.stage import Objective, Sparsity, Stage
from distcond.models.conditional import ConditionalModel


def _always_zero_threshold(options: Any) -> Routing:
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
    """

    name: str
    summary: str
    paper: str
    options: Options
    layers: Callable[[Any, bool], LayerSet]
    objective: Callable[[Any], Objective]
    sampler: Options
    default_grid: tuple[float, ...] = EvalConfig.lam_grid
    routing: Callable[[Any], Routing] = _always_zero_threshold
    lam_grid: Callable[[Config], tuple[float, ...]] = _whole_grid
    encode: Callable[[Any], Encoder | None] = _no_code
    widths: Callable[[Any], tuple[float, ...]] = _full_width
    sparsity: Callable[[Config, ConditionalModel], Sparsity | None] = _dense
    stages: Callable[[Config], tuple[Stage, ...]] | None = None
    trains: bool = True

    def has_two_paths(self, options: Any) -> bool:
        """Whether its networks have a standard and a robust path, which a dial can blend."""
        return hasattr(self.layers(options, False).norm(1), "two_paths")
