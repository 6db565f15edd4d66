"""Wide ResNets as OAT's authors name them (arXiv 2010.11828, code): `bundle1.0.bn1.BN_c`, `convShortcut`, `fc`."""

from __future__ import annotations

from distcond.starting_points.convention import Convention, Rule

_BLOCK = r"bundle(?P<stage>\d+)\.(?P<index>\d+)\."

OAT_WIDE_RESNET = Convention(
    "oat_wide_resnet",
    "wide ResNets of OAT's authors",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(_BLOCK + r"bn1\.BN_c", "blocks.{block}.norm1.norm.clean"),
        Rule(_BLOCK + r"bn1\.BN_a", "blocks.{block}.norm1.norm.adv"),
        Rule(_BLOCK + r"film1\.MLP\.0", "blocks.{block}.norm1.modulate.hidden"),
        Rule(_BLOCK + r"film1\.MLP\.2", "blocks.{block}.norm1.modulate.out"),
        Rule(_BLOCK + r"conv1", "blocks.{block}.unit1.conv"),
        Rule(_BLOCK + r"bn2\.BN_c", "blocks.{block}.unit1.norm.clean"),
        Rule(_BLOCK + r"bn2\.BN_a", "blocks.{block}.unit1.norm.adv"),
        Rule(_BLOCK + r"film2\.MLP\.0", "blocks.{block}.unit1.modulate.hidden"),
        Rule(_BLOCK + r"film2\.MLP\.2", "blocks.{block}.unit1.modulate.out"),
        Rule(_BLOCK + r"conv2", "blocks.{block}.conv2.conv"),
        Rule(_BLOCK + r"convShortcut", "blocks.{block}.shortcut.conv"),
        Rule(r"bn1\.BN_c", "last.norm.clean"),
        Rule(r"bn1\.BN_a", "last.norm.adv"),
        Rule(r"fc", "linear"),
    ),
    raw_pixels=True,  # neither these authors' loaders nor their networks normalise
)
