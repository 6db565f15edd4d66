"""A small convolutional network for images of 8 to 32 pixels: the default model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from distcond.config.fields import setting
from distcond.config.schema import Options
from distcond.layers.condition import Condition
from distcond.layers.folding import ConvNorm
from distcond.layers.layer_set import LayerSet
from distcond.models.model import Model


@dataclass(frozen=True, kw_only=True)
class SmallCnnOptions(Options):
    """Size of the small network."""

    widths: tuple[int, ...] = setting(
        (16, 32, 64), "channels per stage; every stage after the first halves the image", ge=1
    )


class SmallCnn(nn.Module):
    """Two 3x3 convolutions per stage, global average pooling: (N, 3, H, W) to logits (N, K)."""

    def __init__(self, layers: LayerSet, num_classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        units, in_planes = [], 3
        for stage, planes in enumerate(widths):
            units += [ConvNorm(layers, in_planes, planes, 3, 2 if stage else 1), ConvNorm(layers, planes, planes)]
            in_planes = planes
        self.units = nn.ModuleList(units)
        self.linear = layers.linear(in_planes, num_classes)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        for unit in self.units:
            x = F.relu(unit(x, cond))
        logits: Tensor = self.linear(x.mean((2, 3)), cond)
        return logits


def build(layers: LayerSet, num_classes: int, options: SmallCnnOptions) -> SmallCnn:
    """The network that `options` describe."""
    return SmallCnn(layers, num_classes, options.widths)


SMALL_CNN = Model("small_cnn", "six 3x3 convolutions for small images, 73 k parameters", build, SmallCnnOptions())
