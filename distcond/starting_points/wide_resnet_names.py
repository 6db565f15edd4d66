"""Wide ResNets as xternalz, TRADES, AWP and RobustBench name them: `block1.layer.0.conv1`, `convShortcut`, `fc`."""

from __future__ import annotations

from distcond.starting_points.convention import Convention, Rule

_BLOCK = r"block(?P<stage>\d+)\.layer\.(?P<index>\d+)\."

WIDE_RESNET = Convention(
    "wide_resnet",
    "wide ResNets of TRADES, AWP, RobustBench and most papers",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(_BLOCK + r"bn1", "blocks.{block}.norm1.norm"),
        Rule(_BLOCK + r"conv1", "blocks.{block}.unit1.conv"),
        Rule(_BLOCK + r"bn2", "blocks.{block}.unit1.norm"),
        Rule(_BLOCK + r"conv2", "blocks.{block}.conv2.conv"),
        Rule(_BLOCK + r"convShortcut", "blocks.{block}.shortcut.conv"),
        Rule(r"bn1", "last.norm"),
        Rule(r"fc|linear", "linear"),
    ),
)
