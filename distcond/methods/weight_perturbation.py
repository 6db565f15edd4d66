"""Adversarial weight perturbation (Wu et al. 2020, arXiv 2004.05884): the step is taken for the worst weights nearby.

    v = gamma * |w| * g / |g|   per weight tensor, with g the gradient of the step's own loss,
    w <- w - lr * (gradient of the loss at w + v)

The adversarial images are made once, at w (the authors' AT-AWP and TRADES-AWP). The weights are back at w before the
optimiser moves them, as in AT-AWP; the authors' TRADES-AWP subtracts v after the step, so that decay acts on w + v, and
begins after ten epochs. All ranks share one perturbation: g is
the mean over ranks, one all-reduce more per step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from distcond.layers.masked import MaskedConv2d
from distcond.sparsity.masks import average_over_ranks

_TINY = 1e-12


class WeightPerturbation:
    """Moves the weights of `model` before a forward and back after its backward.

    Args:
        gamma: length of the perturbation relative to each weight tensor's, above 0. Biases and normalisations stay.
    """

    def __init__(self, model: nn.Module, gamma: float) -> None:
        self.gamma, self.model = gamma, model
        self.weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
        self._before: list[Tensor] = []

    def apply(self, loss: Callable[[], Tensor]) -> None:
        """Add v for `loss()`, this rank's loss at the present weights; running statistics do not move."""
        with without_side_effects(self.model):
            grads = torch.autograd.grad(loss(), self.weights, allow_unused=True, materialize_grads=True)
        steps = mean_over_ranks(grads)
        with torch.no_grad():
            self._before = [weight.detach().clone() for weight in self.weights]
            for weight, step in zip(self.weights, steps, strict=True):
                # A weight of zero is outside a mask: it stays there.
                step = step * (weight != 0)
                weight.add_(step * (self.gamma * weight.norm() / (step.norm() + _TINY)))

    @torch.no_grad()
    def undo(self) -> None:
        """Back to the weights before `apply`, bit for bit; after the backward of the perturbed forward."""
        for weight, before in zip(self.weights, self._before, strict=True):
            weight.copy_(before)
        self._before = []


def mean_over_ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean over the ranks of each tensor, by one all-reduce."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    average_over_ranks([flat])
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


@contextmanager
def without_side_effects(model: nn.Module) -> Iterator[None]:
    """A pass inside leaves no trace: running statistics and the gradients that masks grow by are those from before."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    masked = [module for module in model.modules() if isinstance(module, MaskedConv2d)]
    statistics = [buffer for norm in norms for buffer in norm.buffers()]
    before, watched = [buffer.clone() for buffer in statistics], [layer.dense_gradients for layer in masked]
    for layer in masked:
        layer.dense_gradients = {}
    try:
        yield
    finally:
        for buffer, kept in zip(statistics, before, strict=True):
            buffer.copy_(kept)
        for layer, gradients in zip(masked, watched, strict=True):
            layer.dense_gradients = gradients
