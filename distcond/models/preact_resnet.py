"""Pre-activation ResNets for small images (He et al. 2016b, "Identity mappings in deep residual networks").

Normalisation and ReLU precede each convolution, so nothing acts on the sum of a block and its shortcut. FiLM follows
both normalisations of a block, but not the last one before pooling (as in the code of OAT, arXiv 2010.11828).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from distcond.config.fields import setting
from distcond.config.schema import Options
from distcond.layers.condition import Condition
from distcond.layers.folding import ConvNorm, ConvUnit, NormUnit
from distcond.layers.layer_set import LayerSet
from distcond.models.model import Model, stage_shapes


@dataclass(frozen=True, kw_only=True)
class PreActResNetOptions(Options):
    """Size of a pre-activation ResNet."""

    depths: tuple[int, ...] = setting((2, 2, 2, 2), "blocks per stage", ge=1)
    widths: tuple[int, ...] = setting((64, 128, 256, 512), "channels per stage; as many as model.depths", ge=1)


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after normalisation and ReLU. A shortcut convolution reads the first activated input.

    `dropout` is the dropout rate between the convolutions in training (Zagoruyko & Komodakis 2016).
    """

    def __init__(self, layers: LayerSet, in_planes: int, planes: int, stride: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = NormUnit(layers, in_planes)
        self.unit1 = ConvNorm(layers, in_planes, planes, 3, stride)
        self.conv2 = ConvUnit(layers, planes, planes)
        reshapes = stride != 1 or in_planes != planes
        self.shortcut = ConvUnit(layers, in_planes, planes, 1, stride) if reshapes else None
        self.dropout = dropout

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        active = F.relu(self.norm1(x, cond))
        skip = x if self.shortcut is None else self.shortcut(active, cond)
        out = F.relu(self.unit1(active, cond))
        if self.dropout:
            out = F.dropout(out, self.dropout, self.training)
        out = self.conv2(out, cond)
        return out + skip


class PreActResNet(nn.Module):
    """`forward(x, cond)`: normalised images (N, 3, H, W) to logits (N, K); every stage after the first halves H, W."""

    def __init__(
        self,
        layers: LayerSet,
        num_classes: int,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        stem_width: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = ConvUnit(layers, 3, stem_width)
        blocks, in_planes = [], stem_width
        for stage, (depth, planes) in enumerate(stage_shapes(depths, widths)):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(PreActBlock(layers, in_planes, planes, stride, dropout))
                in_planes = planes
        self.blocks = nn.ModuleList(blocks)
        self.last = NormUnit(layers, in_planes, modulated=False)
        self.linear = layers.linear(in_planes, num_classes)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        x = self.stem(x, cond)
        for block in self.blocks:
            x = block(x, cond)
        x = F.relu(self.last(x, cond))
        logits: Tensor = self.linear(x.mean((2, 3)), cond)
        return logits


def build(layers: LayerSet, num_classes: int, options: PreActResNetOptions) -> PreActResNet:
    """The network that `options` describe; its first convolution is as wide as its first stage.

    Raises:
        ConfigError: different numbers of depths and widths.
    """
    return PreActResNet(layers, num_classes, options.depths, options.widths, options.widths[0])


PREACT_RESNET18 = Model("preact_resnet18", "pre-activation ResNet-18, 11.2 M parameters", build, PreActResNetOptions())
