"""Slimmable layers: the first channels of every layer form a narrower network (Yu et al. 2019).

OATS (arXiv 2010.11828) gives every width its own dual batch normalisation and shares everything else. A width is an
index into the width multipliers, widest first, constant within a pass.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from distcond.layers.condition import Condition
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.layers.film import FiLM
from distcond.layers.noisy import Amplitude, NoisyConv2d
from distcond.layers.plain import BatchNorm2d, Conv2d

#: Channels of an image, which are never narrowed.
IMAGE_CHANNELS = 3


def channels_at_widths(full: int, width_mults: tuple[float, ...]) -> tuple[int, ...]:
    """Channels used of `full` at each width, rounded down, at least 1; all channels of an image."""
    if full == IMAGE_CHANNELS:
        return (full,) * len(width_mults)
    # The small term: 0.29 * 100 is 28.999... in binary.
    return tuple(max(1, int(full * width_mult + 1e-9)) for width_mult in width_mults)


class SlimmableConv2d(Conv2d):
    """Convolution with the first output and input channels of its weight."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        width_mults: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.outs = channels_at_widths(out_channels, width_mults)
        self.ins = channels_at_widths(in_channels, width_mults)

    def effective_weight(self, cond: Condition) -> Tensor:
        """The weight at `cond.width`, (C_out, C_in, k, k) of that width."""
        return self.weight[: self.outs[cond.width], : self.ins[cond.width]]


class NoisySlimmableConv2d(NoisyConv2d):
    """Noisy convolution whose full-width noisy weight is sliced; one amplitude for all widths.

    Noise is scaled by the deviation of the full-width weight, as in the later code of FLOAT's authors (arXiv
    2204.00426).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        alpha: Amplitude = 0.25,
        width_mults: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, alpha)
        self.outs = channels_at_widths(out_channels, width_mults)
        self.ins = channels_at_widths(in_channels, width_mults)

    def slice_weight(self, weight: Tensor, cond: Condition) -> Tensor:
        """The part of a full-width tensor that `cond.width` uses."""
        return weight[: self.outs[cond.width], : self.ins[cond.width]]


class SwitchableBatchNorm2d(nn.Module):
    """One batch normalisation per width, because statistics differ between widths."""

    kind: type[BatchNorm2d | DualBatchNorm2d] = BatchNorm2d

    def __init__(self, channels: int, width_mults: tuple[float, ...], shared: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList(self.kind(count, shared) for count in channels_at_widths(channels, width_mults))

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        out: Tensor = self.norms[cond.width](x, cond)
        return out

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) of the routed branch at `cond.width`, in eval mode."""
        norm = self.norms[cond.width]
        assert isinstance(norm, self.kind)
        return norm.as_affine(cond)

    def routed(self, cond: Condition) -> nn.BatchNorm2d:
        """The routed branch at `cond.width`."""
        norm = self.norms[cond.width]
        assert isinstance(norm, self.kind)
        return norm.routed(cond)


class SwitchableDualBatchNorm2d(SwitchableBatchNorm2d):
    """One dual batch normalisation per width (OATS)."""

    two_paths = True
    kind = DualBatchNorm2d


class SlimmableFiLM(FiLM):
    """FiLM of the first channels, with a hidden layer that narrows with them.

    Args:
        channels, code_dim, identity_start: as for `FiLM`, at full width.
        width_mults: widest first.
        concatenated: slice the concatenation of scale and shift, as the authors' code does: some outputs are shift at
            one width and scale at another. Otherwise a channel keeps its scale and shift at every width.
    """

    def __init__(
        self,
        channels: int,
        code_dim: int = 1,
        identity_start: bool = False,
        width_mults: tuple[float, ...] = (1.0,),
        concatenated: bool = False,
    ) -> None:
        super().__init__(channels, code_dim, identity_start)
        self.counts = channels_at_widths(channels, width_mults)
        self.concatenated = concatenated

    def run_mlp(self, code: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """The MLP's outputs for scale and shift, (N|1, C) each, with C of `width`."""
        count = self.counts[width]
        hidden = F.leaky_relu(F.linear(code, self.hidden.weight[: 2 * count], self.hidden.bias[: 2 * count]))
        weight, shift_start = self.out.weight[:, : 2 * count], count if self.concatenated else self.channels
        rows = (slice(0, count), slice(shift_start, shift_start + count))
        scale, shift = (F.linear(hidden, weight[part], self.out.bias[part]) for part in rows)
        return scale, shift


class SlimmableLinear(nn.Linear):
    """One classifier for all widths, which reads the first features."""

    def __init__(self, in_features: int, out_features: int, width_mults: tuple[float, ...]) -> None:
        super().__init__(in_features, out_features)
        self.ins = channels_at_widths(in_features, width_mults)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        return F.linear(x, self.weight[:, : self.ins[cond.width]], self.bias)


class SwitchableLinear(nn.Module):
    """One classifier per width: the switchable output layer of SOLAR (arXiv 2509.16833)."""

    def __init__(self, in_features: int, out_features: int, width_mults: tuple[float, ...]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Linear(count, out_features) for count in channels_at_widths(in_features, width_mults)
        )

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        out: Tensor = self.heads[cond.width](x)
        return out
