"""ResNets as torchvision and timm name them: `layer1.0.conv1`, `layer2.0.downsample.0`, `fc`."""

from __future__ import annotations

from distcond.starting_points.convention import Convention, Rule

_BLOCK = r"layer(?P<stage>\d+)\.(?P<index>\d+)\."

TORCHVISION_RESNET = Convention(
    "torchvision_resnet",
    "ResNets of torchvision and timm",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(r"bn1", "stem.norm"),
        Rule(_BLOCK + r"conv(?P<unit>\d)", "blocks.{block}.unit{unit}.conv"),
        Rule(_BLOCK + r"bn(?P<unit>\d)", "blocks.{block}.unit{unit}.norm"),
        Rule(_BLOCK + r"downsample\.0", "blocks.{block}.shortcut.conv"),
        Rule(_BLOCK + r"downsample\.1", "blocks.{block}.shortcut.norm"),
        Rule(r"fc|linear", "linear"),
    ),
)
