"""Wide ResNets for small images (Zagoruyko & Komodakis 2016): pre-activation blocks in three wide stages.

WRN-d-k has (d - 4) / 6 blocks per stage, k times the channels 16-32-64, and 16 channels in the first convolution. OAT
trains WRN-16-8 (SVHN) and WRN-40-2 (STL-10) with dropout 0.3, Sparsity Winning Twice trains WRN-34-10 without.
"""

from __future__ import annotations

from dataclasses import dataclass

from distcond.config.fields import setting
from distcond.config.schema import Options
from distcond.layers.layer_set import LayerSet
from distcond.models.model import Model, init_he_normal
from distcond.models.preact_resnet import PreActResNet


@dataclass(frozen=True, kw_only=True)
class WideResNetOptions(Options):
    """Size of a wide ResNet."""

    depths: tuple[int, ...] = setting((), "blocks per stage", ge=1)
    widths: tuple[int, ...] = setting((), "channels per stage; as many as model.depths", ge=1)
    stem_width: int = setting(16, "channels of the first convolution", ge=1)
    dropout: float = setting(0.0, "share of activations dropped inside a block in training; OAT: 0.3", ge=0, le=1)


def build(layers: LayerSet, num_classes: int, options: WideResNetOptions) -> PreActResNet:
    """The network that `options` describe, with He initialisation as in the paper.

    Raises:
        ConfigError: different numbers of depths and widths.
    """
    net = PreActResNet(layers, num_classes, options.depths, options.widths, options.stem_width, options.dropout)
    init_he_normal(net)
    return net


WRN16_8 = Model(
    "wrn16_8",
    "Wide ResNet 16-8, 11.0 M parameters",
    build,
    WideResNetOptions(depths=(2, 2, 2), widths=(128, 256, 512)),
)
WRN40_2 = Model(
    "wrn40_2",
    "Wide ResNet 40-2, 2.2 M parameters",
    build,
    WideResNetOptions(depths=(6, 6, 6), widths=(32, 64, 128)),
)
WRN34_10 = Model(
    "wrn34_10",
    "Wide ResNet 34-10, 46.2 M parameters",
    build,
    WideResNetOptions(depths=(5, 5, 5), widths=(160, 320, 640)),
)
