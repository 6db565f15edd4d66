"""Layer factories that a model is built from. A method chooses the `LayerSet`; the model's code stays the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from distcond.layers.condition import Condition
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.layers.film import FiLM
from distcond.layers.masked import MaskedConv2d, MaskedNoisyConv2d
from distcond.layers.noisy import Amplitude, NoisyConv2d
from distcond.layers.paired import PairedConv2d, PairedLinear
from distcond.layers.plain import BatchNorm2d, Conv2d, Linear, NoModulation
from distcond.layers.slimmable import (
    NoisySlimmableConv2d,
    SlimmableConv2d,
    SlimmableFiLM,
    SlimmableLinear,
    SwitchableBatchNorm2d,
    SwitchableDualBatchNorm2d,
    SwitchableLinear,
)


class Conv(Protocol):
    """A convolution; `convolve` applies its stride and padding with another weight."""

    def effective_weight(self, cond: Condition) -> Tensor: ...
    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor: ...
    def __call__(self, x: Tensor, cond: Condition) -> Tensor: ...


class Norm(Protocol):
    """A normalisation; `as_affine` gives its scale and shift (C,) in eval mode, `routed` the layer itself."""

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor]: ...
    def routed(self, cond: Condition) -> nn.BatchNorm2d: ...
    def __call__(self, x: Tensor, cond: Condition) -> Tensor: ...


class Modulation(Protocol):
    """Follows a normalisation; `as_affine` gives scale and shift, (C,) for a uniform condition, else (N, C)."""

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor] | None: ...
    def __call__(self, x: Tensor, cond: Condition) -> Tensor: ...


class SlimmableWidths(NamedTuple):
    """The widths of a slimmable network."""

    width_mults: tuple[float, ...]  # widest first
    shared_head: bool = True  # one classifier for all widths, otherwise one per width


class LayerSet(NamedTuple):
    """Factories of modules that are called `(x, cond)`."""

    conv: Callable[..., Conv]  # (in_channels, out_channels, kernel_size=3, stride=1)
    norm: Callable[[int], Norm]  # (channels)
    modulate: Callable[[int], Modulation] = NoModulation  # (channels)
    linear: Callable[[int, int], nn.Module] = Linear  # (in_features, out_features)


def plain_layers(shared: bool = False) -> LayerSet:
    """No conditioning: PGD-AT, TRADES, standard training, Robust Bird, Flying Bird. `shared` = SyncBN, also below."""
    return LayerSet(Conv2d, partial(BatchNorm2d, shared=shared))


def dual_bn_layers(shared: bool = False) -> LayerSet:
    """Plain weights with dual batch normalisation."""
    return LayerSet(Conv2d, partial(DualBatchNorm2d, shared=shared))


def noisy_layers(alpha: Amplitude = 0.25, shared: bool = False) -> LayerSet:
    """FLOAT: weight noise, dual batch normalisation. `alpha`: initial amplitude, or one parameter for all layers."""
    return LayerSet(partial(NoisyConv2d, alpha=alpha), partial(DualBatchNorm2d, shared=shared))


def masked_noisy_layers(alpha: Amplitude = 0.25, shared: bool = False) -> LayerSet:
    """FLOATS: FLOAT's layers with noise on kept weights only."""
    return LayerSet(partial(MaskedNoisyConv2d, alpha=alpha), partial(DualBatchNorm2d, shared=shared))


def masked_layers(shared: bool = False) -> LayerSet:
    """SMART: a clean and an adversarial mask per weight, dual batch normalisation, a dense classifier."""
    return LayerSet(MaskedConv2d, partial(DualBatchNorm2d, shared=shared))


def paired_layers(shared: bool = False) -> LayerSet:
    """Two independent plain networks: a pair of runs."""
    return LayerSet(PairedConv2d, partial(DualBatchNorm2d, shared=shared), linear=PairedLinear)


def film_layers(code_dim: int, identity_start: bool = False, shared: bool = False, dual: bool = True) -> LayerSet:
    """OAT: plain weights, dual batch normalisation unless `dual` is off, FiLM by a code of `code_dim` numbers."""
    modulate = partial(FiLM, code_dim=code_dim, identity_start=identity_start)
    return LayerSet(Conv2d, partial(DualBatchNorm2d if dual else BatchNorm2d, shared=shared), modulate)


def slimmable_layers(widths: SlimmableWidths, shared: bool = False, dual: bool = True) -> LayerSet:
    """Plain weights at several widths, with a batch normalisation per width, dual unless that is off."""
    mults = widths.width_mults
    norm = partial(SwitchableDualBatchNorm2d if dual else SwitchableBatchNorm2d, width_mults=mults, shared=shared)
    linear = partial(SlimmableLinear if widths.shared_head else SwitchableLinear, width_mults=mults)
    return LayerSet(partial(SlimmableConv2d, width_mults=mults), norm, linear=linear)


def slimmable_film_layers(
    widths: SlimmableWidths,
    code_dim: int,
    identity_start: bool = False,
    concatenated: bool = False,
    shared: bool = False,
    dual: bool = True,
) -> LayerSet:
    """OATS: OAT's layers at several widths. `concatenated` slices FiLM as the authors' code does."""
    modulate = partial(
        SlimmableFiLM, code_dim=code_dim, identity_start=identity_start, width_mults=widths.width_mults,
        concatenated=concatenated,
    )  # fmt: skip
    return slimmable_layers(widths, shared, dual)._replace(modulate=modulate)


def slimmable_noisy_layers(widths: SlimmableWidths, alpha: Amplitude = 0.25, shared: bool = False) -> LayerSet:
    """FLOAT's layers at several widths."""
    conv = partial(NoisySlimmableConv2d, alpha=alpha, width_mults=widths.width_mults)
    return slimmable_layers(widths, shared)._replace(conv=conv)
