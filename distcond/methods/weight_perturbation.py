"""Adversarial weight perturbation, AWP (Wu et al. 2020, arXiv 2004.05884): the gradient is taken at perturbed weights.

    v = gamma * |w| * g / |g|   per weight tensor, with g the gradient of the step's loss,
    w <- w - lr * (gradient of the loss at w + v)

Adversarial images are computed once, at w, as in the authors' AT-AWP and TRADES-AWP. Weights are restored to w before
the optimiser step, as in AT-AWP; the authors' TRADES-AWP subtracts v after the step, so that weight decay acts on
w + v, and starts after ten epochs. All ranks share one perturbation: g is averaged by one extra all-reduce per step.
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
    """Perturbs the weights of `model` before a forward pass and restores them after its backward.

    Args:
        model: the model. Biases, normalisation parameters and amplitudes of noise are not perturbed.
        gamma: norm of the perturbation relative to the norm of each weight tensor, above 0.
    """

    def __init__(self, model: nn.Module, gamma: float) -> None:
        self.gamma, self.model = gamma, model
        named = model.named_parameters()
        self.weights = [weight for name, weight in named if weight.dim() > 1 and not name.endswith(".alpha")]
        self._before: list[Tensor] = []

    def apply(self, loss: Callable[[], Tensor]) -> None:
        """Add v for `loss()`, this rank's loss at the current weights. Running statistics do not change."""
        with without_side_effects(self.model):
            grads = torch.autograd.grad(loss(), self.weights, allow_unused=True, materialize_grads=True)
        steps = mean_over_ranks(grads)
        with torch.no_grad():
            self._before = [weight.detach().clone() for weight in self.weights]
            for weight, step in zip(self.weights, steps, strict=True):
                # Zero weights are outside a mask and must stay zero.
                step = step * (weight != 0)
                weight.add_(step * (self.gamma * weight.norm() / (step.norm() + _TINY)))

    @torch.no_grad()
    def undo(self) -> None:
        """Restore the weights before `apply` bit for bit; call it after the backward of the perturbed forward."""
        for weight, before in zip(self.weights, self._before, strict=True):
            weight.copy_(before)
        self._before = []


def mean_over_ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each tensor over ranks, by one all-reduce."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    average_over_ranks([flat])
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


@contextmanager
def without_side_effects(model: nn.Module) -> Iterator[None]:
    """Restore running statistics and the dense gradients of masked layers after a forward and backward pass."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    masked = [module for module in model.modules() if isinstance(module, MaskedConv2d)]
    statistics = [buffer for norm in norms for buffer in norm.buffers()]
    before, dense_gradients = [buffer.clone() for buffer in statistics], [layer.dense_gradients for layer in masked]
    for layer in masked:
        layer.dense_gradients = {}
    try:
        yield
    finally:
        for buffer, kept in zip(statistics, before, strict=True):
            buffer.copy_(kept)
        for layer, gradients in zip(masked, dense_gradients, strict=True):
            layer.dense_gradients = gradients
