"""FLOPs and nonzero weights of a network at one operating point, counted from its folded weights.

Folding gives the convolutions that an operating point runs, with its width, mask and noise. Multiplications by a zero
weight are not counted: these are the FLOPs (2 x multiply-accumulate) of hardware that skips zeros.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from distcond.layers.folding import NormUnit
from distcond.models.conditional import ConditionalModel, FoldedModel
from distcond.models.dial import OutputBlend, network_at
from distcond.operating_point import PointLike


class Cost(NamedTuple):
    """Cost of one image through convolutions and classifier."""

    flops: float  # without multiplications by a zero weight
    dense_flops: float  # with them
    nonzeros: int  # weights that are not zero
    weights: int  # all weights

    def plus(self, other: Cost) -> Cost:
        """The cost of running both networks."""
        return Cost(
            self.flops + other.flops,
            self.dense_flops + other.dense_flops,
            self.nonzeros + other.nonzeros,
            self.weights + other.weights,
        )

    @property
    def density(self) -> float:
        """Share of nonzero weights."""
        return self.nonzeros / self.weights


@torch.no_grad()
def cost_at(model: ConditionalModel, point: PointLike, width: int, image_size: int) -> Cost:
    """The cost of a model in eval mode at an operating point and width index, by one forward pass of a zero image.

    A blend of outputs costs both ends. A model on the meta device has no values, so its dense cost is returned.
    """
    network = network_at(model, point, model.width_mults[width])
    if isinstance(network, OutputBlend):
        return _measure(network.clean, image_size).plus(_measure(network.robust, image_size))
    return _measure(network, image_size)


def _measure(network: nn.Module, image_size: int) -> Cost:
    assert isinstance(network, FoldedModel)
    model = network.model  # for a pair's interpolated weights not the pair itself
    parts: list[tuple[Tensor, int]] = []  # weight, number of positions it is applied at

    def record_unit(unit: Any, _: object, out: Tensor) -> None:
        parts.append((network.folded(unit.index).weight, out[0, 0].numel()))

    def record_linear(linear: nn.Linear, inputs: tuple[Tensor], out: Tensor) -> None:
        # A narrower width uses the first rows and columns.
        parts.append((linear.weight[: out.shape[1], : inputs[0].shape[1]], 1))

    hooks = [unit.register_forward_hook(record_unit) for unit in model.units if not isinstance(unit, NormUnit)]
    linears = [module for module in model.backbone.modules() if isinstance(module, nn.Linear)]
    hooks += [linear.register_forward_hook(record_linear) for linear in linears]
    try:
        network(torch.zeros(1, 3, image_size, image_size, device=model.mean.device))
    finally:
        for hook in hooks:
            hook.remove()
    kept = [weight.numel() if weight.is_meta else int(weight.count_nonzero()) for weight, _ in parts]
    return Cost(
        flops=2.0 * sum(n * positions for n, (_, positions) in zip(kept, parts, strict=True)),
        dense_flops=2.0 * sum(weight.numel() * positions for weight, positions in parts),
        nonzeros=sum(kept),
        weights=sum(weight.numel() for weight, _ in parts),
    )
