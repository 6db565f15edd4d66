"""Pre-activation ResNets as the CIFAR code of the field names them; `bn` before the classifier where there is one."""

from __future__ import annotations

from distcond.starting_points.convention import Convention, Rule

_BLOCK = r"layer(?P<stage>\d+)\.(?P<index>\d+)\."

KUANGLIU_PREACT = Convention(
    "kuangliu_preact",
    "pre-activation ResNets of kuangliu's CIFAR code, RobustBench and most papers",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(_BLOCK + r"bn1", "blocks.{block}.norm1.norm"),
        Rule(_BLOCK + r"conv1", "blocks.{block}.unit1.conv"),
        Rule(_BLOCK + r"bn2", "blocks.{block}.unit1.norm"),
        Rule(_BLOCK + r"conv2", "blocks.{block}.conv2.conv"),
        Rule(_BLOCK + r"shortcut\.0", "blocks.{block}.shortcut.conv"),
        Rule(r"bn", "last.norm"),
        Rule(r"linear|fc", "linear"),
    ),
)
