"""What a weight is worth: one number per entry, larger = rather kept or grown."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distcond.seeding import generator
from distcond.sparsity.masks import Weights


def magnitude(weights: Weights) -> dict[str, Tensor]:
    """|w|."""
    return {name: weight.detach().abs() for name, weight in weights.items()}


def gradient(weights: Weights) -> dict[str, Tensor]:
    """|dL/dw| of the last step, dense: also where a mask holds the weight at zero."""
    return {name: _gradient(name, weight).abs() for name, weight in weights.items()}


def momentum(weights: Weights, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """|momentum| of the optimiser, dense likewise."""
    return {name: buffer.abs() for name, buffer in momentum_buffers(weights, optimiser).items()}


def momentum_buffers(weights: Weights, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """SGD's momentum buffers by weight name; empty before the first step and without momentum."""
    states = {name: optimiser.state.get(weight, {}) for name, weight in weights.items()}
    buffers: Mapping[str, Tensor | None] = {name: state.get("momentum_buffer") for name, state in states.items()}
    return {name: buffer for name, buffer in buffers.items() if buffer is not None}


def random(weights: Weights, *key: object) -> dict[str, Tensor]:
    """Uniform numbers, a function of key and name alone, on any device."""
    return {
        name: torch.rand(weight.shape, generator=generator(*key, name)).to(weight.device)
        for name, weight in weights.items()
    }


def _gradient(name: str, weight: Tensor) -> Tensor:
    assert weight.grad is not None, f"{name} has no gradient: growth by gradient follows a backward pass"
    return weight.grad
