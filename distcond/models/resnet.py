"""ResNets for small images: 3x3 stem, no max-pooling (He et al. 2016, as every paper here uses them on CIFAR)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from distcond.condition import Condition
from distcond.config.schema import Options
from distcond.config.setting import setting
from distcond.errors import ConfigError
from distcond.layers.conv_norm import ConvNorm
from distcond.layers.layer_set import LayerSet
from distcond.models.model import Model


@dataclass(frozen=True, kw_only=True)
class ResNetOptions(Options):
    """Which ResNet."""

    depths: tuple[int, ...] = setting((), "blocks per stage", ge=1)
    widths: tuple[int, ...] = setting((), "channels per stage; as many as model.depths", ge=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the shortcut's normalisation is never modulated (OAT's code)."""

    def __init__(self, layers: LayerSet, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.unit1 = ConvNorm(layers, in_planes, planes, 3, stride)
        self.unit2 = ConvNorm(layers, planes, planes)
        reshapes = stride != 1 or in_planes != planes
        self.shortcut = ConvNorm(layers, in_planes, planes, 1, stride, modulated=False) if reshapes else None

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        out = self.unit2(F.relu(self.unit1(x, cond)), cond)
        skip = x if self.shortcut is None else self.shortcut(x, cond)
        return F.relu(out + skip)


class ResNet(nn.Module):
    """`forward(x, cond)`: normalised images (N, 3, H, W) to logits (N, K); every stage after the first halves H, W."""

    def __init__(self, layers: LayerSet, num_classes: int, depths: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = ConvNorm(layers, 3, widths[0])
        blocks, in_planes = [], widths[0]
        for stage, (depth, planes) in enumerate(zip(depths, widths, strict=True)):
            for index in range(depth):
                blocks.append(BasicBlock(layers, in_planes, planes, 2 if stage > 0 and index == 0 else 1))
                in_planes = planes
        self.blocks = nn.ModuleList(blocks)
        self.linear = layers.linear(in_planes, num_classes)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        x = F.relu(self.stem(x, cond))
        for block in self.blocks:
            x = block(x, cond)
        logits: Tensor = self.linear(x.mean((2, 3)), cond)
        return logits


def build(layers: LayerSet, num_classes: int, options: ResNetOptions) -> ResNet:
    """The ResNet that `options` describe.

    Raises:
        ConfigError: other numbers of depths and widths.
    """
    if len(options.depths) != len(options.widths):
        given = f"model.depths={options.depths} with model.widths={options.widths}"
        raise ConfigError(f"{given}: give one of each per stage, such as model.depths=2,2 model.widths=16,32")
    return ResNet(layers, num_classes, options.depths, options.widths)


_WIDE = (64, 128, 256, 512)
RESNET18 = Model("resnet18", "ResNet-18, 11.2 M parameters", build, ResNetOptions(depths=(2, 2, 2, 2), widths=_WIDE))
RESNET34 = Model("resnet34", "ResNet-34, 21.3 M parameters", build, ResNetOptions(depths=(3, 4, 6, 3), widths=_WIDE))
RESNET20 = Model(
    "resnet20", "ResNet-20 of 16-32-64, 0.27 M parameters", build, ResNetOptions(depths=(3, 3, 3), widths=(16, 32, 64))
)
