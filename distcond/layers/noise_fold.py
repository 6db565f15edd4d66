"""Folds new weight noise into all noisy layers of a network at once.

An attack draws new noise in each of its steps, and nothing else changes between them: weights, deviations, amplitudes
and normalisation are the same. They are laid out once per attack as flat tensors beside the noise, and a draw costs a
handful of kernels for the network in place of ten per layer. The result is that of `Unit.fold`, bit for bit: the same
operations in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distcond.layers.condition import Condition, FoldedUnit
from distcond.layers.folding import ConvNorm, ConvUnit, Unit
from distcond.layers.noisy import NoisyConv2d


@dataclass(frozen=True)
class _NoisyUnit:
    """A unit with a noisy convolution, at one condition without noise."""

    index: int  # in `Condition.folded`
    conv: NoisyConv2d
    weight: Tensor  # (C_out, C_in / groups, k, k) at the condition's width
    scale: Tensor  # 0-d or (C_out, 1, 1, 1), of the normalisation that follows
    rest: FoldedUnit  # bias and modulation, which have no noise


class NoiseFold:
    """noise (P,) -> the folded units of a condition with that noise.

    Args:
        units: the units of the network, in eval mode, in the order of their index.
        cond: one lam and one route, with the code of its lam and without noise.
        dtype: of the folded weights.
    """

    @torch.no_grad()
    def __init__(self, units: Sequence[Unit], cond: Condition, dtype: torch.dtype) -> None:
        self.cond, self.dtype = cond, dtype
        self.noisy = [_noisy_unit(unit, cond, dtype) for unit in units if _is_noisy(unit)]
        self.folded = [
            FoldedUnit(cond.lam, None) if _is_noisy(unit) else unit.fold(cond, dtype) for unit in units
        ]  # those with noise are replaced in every call
        self.order = self._noise_order()
        self.weight = self._flat(lambda unit: unit.weight)
        self.deviation = self._flat(lambda unit: _deviation(unit.conv, cond))
        self.amplitude = self._flat(lambda unit: cond.lam[0] * unit.conv.amplitude(cond))
        self.scale = self._flat(lambda unit: unit.scale)

    @torch.no_grad()
    def __call__(self, noise: Tensor) -> tuple[FoldedUnit, ...]:
        """The folded units with flat standard normal `noise` (P,)."""
        flat = noise if self.order is None else noise.index_select(0, self.order)
        flat = (flat * self.deviation).mul_(self.amplitude).add_(self.weight).mul_(self.scale).to(self.dtype)
        folded = list(self.folded)
        for unit, part in zip(self.noisy, flat.split([unit.weight.numel() for unit in self.noisy]), strict=True):
            folded[unit.index] = unit.rest._replace(weight=_unflatten(part, unit))
        return tuple(folded)

    def _flat(self, value: Callable[[_NoisyUnit], Tensor]) -> Tensor:
        """One value per weight of the network, from one per layer (0-d), per channel or per weight."""
        return torch.cat([_flatten(value(unit), unit) for unit in self.noisy])

    def _noise_order(self) -> Tensor | None:
        """Which number of the noise belongs to each weight, int32; None = the noise is in the order of the weights.

        Noise numbers the weights at full width row by row, whatever their memory layout.
        """
        if all(unit.conv.weight.is_contiguous() and unit.weight.is_contiguous() for unit in self.noisy):
            return None
        return self._flat(lambda unit: unit.conv.slice_weight(_numbers(unit.conv), self.cond))


def _is_noisy(unit: Unit) -> bool:
    return isinstance(unit, ConvNorm | ConvUnit) and isinstance(unit.conv, NoisyConv2d)


def _noisy_unit(unit: Unit, cond: Condition, dtype: torch.dtype) -> _NoisyUnit:
    assert isinstance(unit, ConvNorm | ConvUnit)
    assert isinstance(unit.conv, NoisyConv2d)
    weight = unit.conv.effective_weight(cond)
    if isinstance(unit, ConvUnit):
        return _NoisyUnit(unit.index, unit.conv, weight, weight.new_ones(()), FoldedUnit(weight, None))
    scale, bias, modulation = unit.fold_norm(cond, dtype)
    return _NoisyUnit(unit.index, unit.conv, weight, scale[:, None, None, None], FoldedUnit(weight, bias, modulation))


def _deviation(conv: NoisyConv2d, cond: Condition) -> Tensor:
    deviation = conv.deviation()
    return conv.slice_weight(deviation, cond) if deviation.dim() else deviation


def _numbers(conv: NoisyConv2d) -> Tensor:
    """Where in the noise each weight's number is, shape of the weight."""
    stop = conv.noise_start + conv.weight.numel()
    return torch.arange(conv.noise_start, stop, dtype=torch.int32, device=conv.weight.device).view(conv.weight.shape)


def _is_channels_last(unit: _NoisyUnit) -> bool:
    weight = unit.conv.weight
    return not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)


def _flatten(values: Tensor, unit: _NoisyUnit) -> Tensor:
    """Values of a layer, expanded to one per weight, in the memory order of its weight."""
    if values.dim() == 0:
        return values.expand(unit.weight.numel())
    values = values.expand(unit.weight.shape)
    return (values.permute(0, 2, 3, 1) if _is_channels_last(unit) else values).reshape(-1)


def _unflatten(flat: Tensor, unit: _NoisyUnit) -> Tensor:
    """The weight with the given values in its memory order, a view."""
    out, per_group, height, width = unit.weight.shape
    if _is_channels_last(unit):
        return flat.view(out, height, width, per_group).permute(0, 3, 1, 2)
    return flat.view(unit.weight.shape)
