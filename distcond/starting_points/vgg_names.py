"""VGGs as torchvision and kuangliu name them: `features.N` counts every layer, activations and pools included.

The classifier of torchvision's has three layers, that of the VGG here has one: `classifier.0` to `.6` stay unused.
"""

from __future__ import annotations

from collections.abc import Sequence

from distcond.starting_points.convention import Convention, Position, Rule

#: Convolution, normalisation, activation.
_LAYERS = 3


def places(positions: Sequence[Position]) -> list[dict[str, int]]:
    """Stage and place in it: a pool between two stages makes the numbers of `features` run ahead by one."""
    stages = [index - positions[0][0] - _LAYERS * number for number, (index,) in enumerate(positions)]
    return [{"part": stage, "unit": number - stages.index(stage)} for number, stage in enumerate(stages)]


VGG = Convention(
    "vgg",
    "VGGs with batch normalisation of torchvision, timm and kuangliu's CIFAR code",
    (
        Rule(r"features\.(?P<index>\d+)", "stages.{part}.{unit}.conv", dims=4),
        Rule(r"features\.(?P<index>\d+)", "stages.{part}.{unit}.norm", dims=1),
        Rule(r"classifier|linear|fc", "linear"),
    ),
    places,
)
