"""ResNets as OAT's authors name them (arXiv 2010.11828, code): `bundle1.0.bn1.BN_c`, `film1.MLP.0`."""

from __future__ import annotations

from distcond.starting_points.convention import Convention, Rule

_BLOCK = r"bundle(?P<stage>\d+)\.(?P<index>\d+)\."

OAT_RESNET = Convention(
    "oat_resnet",
    "ResNets of OAT's authors",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(r"bn1", "stem.norm"),
        Rule(r"bn1\.BN_c", "stem.norm.clean"),
        Rule(r"bn1\.BN_a", "stem.norm.adv"),
        Rule(r"film1\.MLP\.0", "stem.modulate.hidden"),
        Rule(r"film1\.MLP\.2", "stem.modulate.out"),
        Rule(_BLOCK + r"conv(?P<unit>\d)", "blocks.{block}.unit{unit}.conv"),
        Rule(_BLOCK + r"bn(?P<unit>\d)", "blocks.{block}.unit{unit}.norm"),
        Rule(_BLOCK + r"bn(?P<unit>\d)\.BN_c", "blocks.{block}.unit{unit}.norm.clean"),
        Rule(_BLOCK + r"bn(?P<unit>\d)\.BN_a", "blocks.{block}.unit{unit}.norm.adv"),
        Rule(_BLOCK + r"film(?P<unit>\d)\.MLP\.0", "blocks.{block}.unit{unit}.modulate.hidden"),
        Rule(_BLOCK + r"film(?P<unit>\d)\.MLP\.2", "blocks.{block}.unit{unit}.modulate.out"),
        Rule(_BLOCK + r"conv_sc", "blocks.{block}.shortcut.conv"),
        Rule(_BLOCK + r"bn_sc", "blocks.{block}.shortcut.norm"),
        Rule(_BLOCK + r"bn_sc\.BN_c", "blocks.{block}.shortcut.norm.clean"),
        Rule(_BLOCK + r"bn_sc\.BN_a", "blocks.{block}.shortcut.norm.adv"),
        Rule(r"linear", "linear"),
    ),
    raw_pixels=True,  # neither these authors' loaders nor their networks normalise
)
