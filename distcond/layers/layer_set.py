"""The parts a model is built from: give a model another set and it becomes another method's network."""

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
    SwitchableDualBatchNorm2d,
    SwitchableLinear,
)


class Conv(Protocol):
    """A convolution; `convolve` is its stride and padding with another weight."""

    def effective_weight(self, cond: Condition) -> Tensor: ...
    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor: ...
    def __call__(self, x: Tensor, cond: Condition) -> Tensor: ...


class Norm(Protocol):
    """A normalisation; `as_affine` is the scale and shift (C,) that it amounts to in eval mode, `routed` the layer."""

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor]: ...
    def routed(self, cond: Condition) -> nn.BatchNorm2d: ...
    def __call__(self, x: Tensor, cond: Condition) -> Tensor: ...


class Modulation(Protocol):
    """What follows a normalisation; as an affine: scale and shift, (C,) if the condition is uniform, else (N, C)."""

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor] | None: ...
    def __call__(self, x: Tensor, cond: Condition) -> Tensor: ...


class Narrow(NamedTuple):
    """The widths of a slimmable network."""

    width_mults: tuple[float, ...]  # widest first
    shared_head: bool = True  # one classifier for all widths, else one each


class LayerSet(NamedTuple):
    """Makers of modules that are called `(x, cond)`."""

    conv: Callable[..., Conv]  # (in_channels, out_channels, kernel_size=3, stride=1)
    norm: Callable[[int], Norm]  # (channels)
    modulate: Callable[[int], Modulation] = NoModulation  # (channels)
    linear: Callable[[int, int], nn.Module] = Linear  # (in_features, out_features)


def plain(shared: bool = False) -> LayerSet:
    """One network, no conditioning: PGD-AT, TRADES, standard training, the Birds."""
    return LayerSet(Conv2d, partial(BatchNorm2d, shared=shared))


def dual(shared: bool = False) -> LayerSet:
    """Plain weights with dual batch normalisation."""
    return LayerSet(Conv2d, partial(DualBatchNorm2d, shared=shared))


def noisy(alpha: Amplitude = 0.25, shared: bool = False) -> LayerSet:
    """Weight noise with dual batch normalisation: FLOAT. `alpha` is where the amplitudes start, or all layers' one."""
    return LayerSet(partial(NoisyConv2d, alpha=alpha), partial(DualBatchNorm2d, shared=shared))


def masked_noisy(alpha: Amplitude = 0.25, shared: bool = False) -> LayerSet:
    """FLOAT's layers with the noise on the kept weights only: FLOATS."""
    return LayerSet(partial(MaskedNoisyConv2d, alpha=alpha), partial(DualBatchNorm2d, shared=shared))


def masked(shared: bool = False) -> LayerSet:
    """A clean and an adversarial mask over one weight, dual batch normalisation: SMART. The classifier is dense."""
    return LayerSet(MaskedConv2d, partial(DualBatchNorm2d, shared=shared))


def paired(shared: bool = False) -> LayerSet:
    """Two independent plain networks side by side: a pair of runs."""
    return LayerSet(PairedConv2d, partial(DualBatchNorm2d, shared=shared), linear=PairedLinear)


def film(code_dim: int, identity_start: bool = False, shared: bool = False) -> LayerSet:
    """Plain weights, dual batch normalisation, FiLM by a code of `code_dim` numbers: OAT."""
    modulate = partial(FiLM, code_dim=code_dim, identity_start=identity_start)
    return LayerSet(Conv2d, partial(DualBatchNorm2d, shared=shared), modulate)


def slimmable(narrow: Narrow, shared: bool = False) -> LayerSet:
    """Plain weights of several widths, each width with its own dual batch normalisation."""
    mults = narrow.width_mults
    norm = partial(SwitchableDualBatchNorm2d, width_mults=mults, shared=shared)
    linear = partial(SlimmableLinear if narrow.shared_head else SwitchableLinear, width_mults=mults)
    return LayerSet(partial(SlimmableConv2d, width_mults=mults), norm, linear=linear)


def slimmable_film(
    narrow: Narrow, code_dim: int, identity_start: bool = False, concatenated: bool = False, shared: bool = False
) -> LayerSet:
    """OAT's layers at several widths: OATS. `concatenated` is how the authors' code cuts FiLM."""
    modulate = partial(
        SlimmableFiLM, code_dim=code_dim, identity_start=identity_start, width_mults=narrow.width_mults,
        concatenated=concatenated,
    )  # fmt: skip
    return slimmable(narrow, shared)._replace(modulate=modulate)


def slimmable_noisy(narrow: Narrow, alpha: Amplitude = 0.25, shared: bool = False) -> LayerSet:
    """FLOAT's layers at several widths."""
    conv = partial(NoisySlimmableConv2d, alpha=alpha, width_mults=narrow.width_mults)
    return slimmable(narrow, shared)._replace(conv=conv)
