"""For comparisons with checkouts of authors' code: images in float64, and the names OAT's authors give to tensors."""

from __future__ import annotations

import re

import torch

from distcond.models.resnet import RESNET34

X = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.arange(6)


def their_name(name: str) -> str:
    """Ours for a parameter or buffer of the backbone to theirs."""
    block = re.match(r"blocks\.(\d+)\.(unit1|unit2|shortcut)\.", name)
    where, suffix = "", "1"
    if block:
        number, bundle = int(block[1]), 0
        while number >= RESNET34.options.depths[bundle]:
            number, bundle = number - RESNET34.options.depths[bundle], bundle + 1
        where = f"bundle{bundle + 1}.{number}."
        suffix = {"unit1": "1", "unit2": "2", "shortcut": "_sc"}[block[2]]
    rest = name.removeprefix(block[0] if block else "stem.")
    for ours, other in (
        (r"^conv\.", f"conv{suffix}."),
        (r"^norm\.norms\.(\d)\.clean\.", rf"bn{suffix}.BN_c.\1."),
        (r"^norm\.norms\.(\d)\.adv\.", rf"bn{suffix}.BN_a.\1."),
        (r"^norm\.clean\.", f"bn{suffix}.BN_c."),
        (r"^norm\.adv\.", f"bn{suffix}.BN_a."),
        (r"^modulate\.hidden\.", f"film{suffix}.MLP.0."),
        (r"^modulate\.out\.", f"film{suffix}.MLP.2."),
    ):
        rest = re.sub(ours, other, rest)
    return where + rest
