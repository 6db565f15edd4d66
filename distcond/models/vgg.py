"""VGG with batch normalisation for small images (Simonyan & Zisserman 2015, configuration D), with one linear layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from distcond.config.fields import setting
from distcond.config.schema import Options
from distcond.layers.condition import Condition
from distcond.layers.folding import ConvNorm
from distcond.layers.layer_set import LayerSet
from distcond.models.model import Model, stage_shapes


@dataclass(frozen=True, kw_only=True)
class VggOptions(Options):
    """Size of a VGG."""

    depths: tuple[int, ...] = setting((2, 2, 3, 3, 3), "convolutions per stage; each stage ends in a max-pool", ge=1)
    widths: tuple[int, ...] = setting((64, 128, 256, 512, 512), "channels per stage; as many as model.depths", ge=1)


class Vgg(nn.Module):
    """`forward(x, cond)`: normalised images (N, 3, H, W) to logits (N, K).

    3x3 convolutions without bias, since normalisation follows. Global average pooling after the last max-pool (the
    identity for images of 32 pixels) allows any image size; max-pools keep maps of one pixel.
    """

    def __init__(self, layers: LayerSet, num_classes: int, depths: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        parts, in_planes = [], 3
        for depth, planes in stage_shapes(depths, widths):
            inputs = (in_planes, *(planes,) * (depth - 1))
            parts.append(nn.ModuleList(ConvNorm(layers, channels, planes) for channels in inputs))
            in_planes = planes
        self.stages = nn.ModuleList(parts)
        self.linear = layers.linear(in_planes, num_classes)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            for unit in stage:
                x = F.relu(unit(x, cond))
            x = F.max_pool2d(x, 2, ceil_mode=True)
        logits: Tensor = self.linear(x.mean((2, 3)), cond)
        return logits


def build(layers: LayerSet, num_classes: int, options: VggOptions) -> Vgg:
    """The network that `options` describe.

    Raises:
        ConfigError: different numbers of depths and widths.
    """
    return Vgg(layers, num_classes, options.depths, options.widths)


VGG16_BN = Model("vgg16_bn", "VGG-16 with batch normalisation, 14.7 M parameters", build, VggOptions())
