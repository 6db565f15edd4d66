"""ResNets (He et al. 2016): basic blocks for CIFAR, as in all papers here, and bottlenecks for larger images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from distcond.config.fields import setting
from distcond.config.schema import Options
from distcond.layers.condition import Condition
from distcond.layers.folding import ConvNorm
from distcond.layers.layer_set import LayerSet
from distcond.models.model import Model, init_he_normal, stage_shapes


@dataclass(frozen=True, kw_only=True)
class ResNetOptions(Options):
    """Size of a ResNet."""

    depths: tuple[int, ...] = setting((), "blocks per stage", ge=1)
    widths: tuple[int, ...] = setting((), "channels per stage, of a bottleneck's middle; as many as model.depths", ge=1)
    stem: Literal["small", "large"] = setting(
        "small", "first layer: 3x3 for images up to 64 pixels, or 7x7 and a max-pool, a quarter of the size"
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the shortcut's normalisation is never modulated (OAT's code)."""

    expansion = 1

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


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; output four times as wide as the middle.

    The stride is on the 3x3 convolution, as in common implementations; the paper has it on the first 1x1.
    """

    expansion = 4

    def __init__(self, layers: LayerSet, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        out_planes = planes * self.expansion
        self.unit1 = ConvNorm(layers, in_planes, planes, 1)
        self.unit2 = ConvNorm(layers, planes, planes, 3, stride)
        self.unit3 = ConvNorm(layers, planes, out_planes, 1)
        reshapes = stride != 1 or in_planes != out_planes
        self.shortcut = ConvNorm(layers, in_planes, out_planes, 1, stride, modulated=False) if reshapes else None

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        out = F.relu(self.unit2(F.relu(self.unit1(x, cond)), cond))
        out = self.unit3(out, cond)
        skip = x if self.shortcut is None else self.shortcut(x, cond)
        return F.relu(out + skip)


class ResNet(nn.Module):
    """`forward(x, cond)`: normalised images (N, 3, H, W) to logits (N, K); every stage after the first halves H, W."""

    def __init__(
        self,
        layers: LayerSet,
        num_classes: int,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        block: type[BasicBlock | Bottleneck] = BasicBlock,
        large_stem: bool = False,
    ) -> None:
        super().__init__()
        self.large_stem = large_stem
        self.stem = ConvNorm(layers, 3, widths[0], 7, 2) if large_stem else ConvNorm(layers, 3, widths[0])
        blocks, in_planes = [], widths[0]
        for stage, (depth, planes) in enumerate(stage_shapes(depths, widths)):
            for index in range(depth):
                blocks.append(block(layers, in_planes, planes, 2 if stage > 0 and index == 0 else 1))
                in_planes = planes * block.expansion
        self.blocks = nn.ModuleList(blocks)
        self.linear = layers.linear(in_planes, num_classes)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        x = F.relu(self.stem(x, cond))
        if self.large_stem:
            x = F.max_pool2d(x, 3, 2, 1)
        for block in self.blocks:
            x = block(x, cond)
        logits: Tensor = self.linear(x.mean((2, 3)), cond)
        return logits


def build(layers: LayerSet, num_classes: int, options: ResNetOptions) -> ResNet:
    """The ResNet with basic blocks that `options` describe.

    Raises:
        ConfigError: different numbers of depths and widths.
    """
    return ResNet(layers, num_classes, options.depths, options.widths, BasicBlock, options.stem == "large")


def build_bottleneck(layers: LayerSet, num_classes: int, options: ResNetOptions) -> ResNet:
    """The ResNet with bottlenecks that `options` describe, with He initialisation.

    Raises:
        ConfigError: different numbers of depths and widths.
    """
    net = ResNet(layers, num_classes, options.depths, options.widths, Bottleneck, options.stem == "large")
    init_he_normal(net)
    return net


_RESNET18 = ResNetOptions(depths=(2, 2, 2, 2), widths=(64, 128, 256, 512))
_RESNET34 = replace(_RESNET18, depths=(3, 4, 6, 3))
RESNET18 = Model("resnet18", "ResNet-18, 11.2 M parameters", build, _RESNET18)
RESNET34 = Model("resnet34", "ResNet-34, 21.3 M parameters", build, _RESNET34)
RESNET20 = Model(
    "resnet20", "ResNet-20 of 16-32-64, 0.27 M parameters", build, ResNetOptions(depths=(3, 3, 3), widths=(16, 32, 64))
)
RESNET50 = Model(
    "resnet50", "ResNet-50 for larger images, 25.6 M parameters", build_bottleneck, replace(_RESNET34, stem="large")
)
