"""ResNets as the CIFAR code of the field names them (kuangliu, RobustBench): `layer2.0.shortcut.0`, `linear`."""

from __future__ import annotations

from distcond.starting_points.convention import Convention, Rule

_BLOCK = r"layer(?P<stage>\d+)\.(?P<index>\d+)\."

KUANGLIU_RESNET = Convention(
    "kuangliu_resnet",
    "ResNets of kuangliu's CIFAR code, RobustBench and most papers",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(r"bn1", "stem.norm"),
        Rule(_BLOCK + r"conv(?P<unit>\d)", "blocks.{block}.unit{unit}.conv"),
        Rule(_BLOCK + r"bn(?P<unit>\d)", "blocks.{block}.unit{unit}.norm"),
        Rule(_BLOCK + r"shortcut\.0", "blocks.{block}.shortcut.conv"),
        Rule(_BLOCK + r"shortcut\.1", "blocks.{block}.shortcut.norm"),
        Rule(r"linear|fc", "linear"),
    ),
)
