"""FLOPs and nonzero weights of a network at one operating point, counted from the weights it would run with.

Folding gives the convolutions an operating point amounts to: its width, its mask, its noise. A multiplication with a
zero weight is not counted, so these are the FLOPs (2 x multiply-accumulate) that hardware which skips zeros would do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distcond.layers.condition import FoldedModel
from distcond.layers.folding import NormUnit
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import OutputBlend, network_at
from distcond.operating_point import PointLike


class Cost(NamedTuple):
    """Of one image through convolutions and classifier."""

    flops: float  # multiplications with a zero weight left out
    dense_flops: float  # the same network without zeros
    nonzeros: int  # weights that are not zero
    weights: int  # all of them

    def __or__(self, other: Cost) -> Cost:
        """Both, one after the other."""
        return Cost(
            self.flops + other.flops,
            self.dense_flops + other.dense_flops,
            self.nonzeros + other.nonzeros,
            self.weights + other.weights,
        )

    @property
    def density(self) -> float:
        """Share of the weights that is not zero."""
        return self.nonzeros / self.weights


@torch.no_grad()
def cost_at(model: ConditionalModel, place: PointLike, width: int, image_size: int) -> Cost:
    """The cost of a network in eval mode at a point and width (by its index), by one forward of one empty image.

    A mix of outputs costs what both ends cost. A network on the meta device has no values: its cost is that without
    zeros, and takes no time.
    """
    network = network_at(model, place, model.width_mults[width])
    if isinstance(network, OutputBlend):
        return _cost_of(network.clean, image_size) | _cost_of(network.robust, image_size)
    return _cost_of(network, image_size)


def _cost_of(network: nn.Module, image_size: int) -> Cost:
    assert isinstance(network, FoldedModel)
    model = network.model  # of a pair's interpolated weights another one than the pair
    assert isinstance(model, ConditionalModel)
    parts: list[tuple[Tensor, int]] = []  # weight, positions it is applied at
    hooks = [
        unit.register_forward_hook(lambda unit, _, out: parts.append((network.folded(unit.index).weight, _area(out))))
        for unit in model.units
        if not isinstance(unit, NormUnit)
    ]
    heads = [module for module in model.backbone.modules() if isinstance(module, nn.Linear)]
    hooks += [
        head.register_forward_hook(lambda head, x, out: parts.append((_used(head, x[0], out), 1))) for head in heads
    ]
    try:
        network(torch.zeros(1, 3, image_size, image_size, device=model.mean.device))
    finally:
        for hook in hooks:
            hook.remove()
    kept = [weight.numel() if weight.is_meta else int(weight.count_nonzero()) for weight, _ in parts]
    return Cost(
        flops=2.0 * sum(n * area for n, (_, area) in zip(kept, parts, strict=True)),
        dense_flops=2.0 * sum(weight.numel() * area for weight, area in parts),
        nonzeros=sum(kept),
        weights=sum(weight.numel() for weight, _ in parts),
    )


def _area(out: Tensor) -> int:
    return out[0, 0].numel()


def _used(head: nn.Linear, x: Tensor, out: Tensor) -> Tensor:
    """The part of a linear layer's weight that a narrower width uses."""
    return head.weight[: out.shape[1], : x.shape[1]]
