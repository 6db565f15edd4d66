"""Key mappings: how families of checkpoints (torchvision, kuangliu, RobustBench, OAT) name their tensors, as data.

VGG: `features.N` counts every layer, activations and pools included. The classifier of torchvision's has three layers,
that of the VGG here has one: `classifier.0` to `.6` stay unused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

#: The numbers in a module's name, such as (stage, index).
Position = tuple[int, ...]


class Rule(NamedTuple):
    """One module there and here.

    Attributes:
        pattern: of the module's whole name there; its groups `stage` and `index` are the module's position.
        name: of the module in the plain build of a model; `{block}` and what else `Convention.places` gives stand for
            the position, other groups of the pattern for themselves.
        dims: where given, only modules whose weight has this many dimensions; positions are counted among these alone.
    """

    pattern: str
    name: str
    dims: int | None = None


Hit = tuple[Rule, re.Match[str]]


def blocks_in_order(positions: Sequence[Position]) -> list[dict[str, int]]:
    """Blocks counted through all stages: the `{block}` of each position."""
    return [{"block": number} for number in range(len(positions))]


@dataclass(frozen=True)
class KeyMapping:
    """How a family of checkpoints names its tensors. `vgg_positions` maps the sorted positions of a checkpoint to the
    numbers that names here have.

    The first rule that fits a name counts. `raw_pixels` says that networks with these names take pixels of [0, 1] as
    they are.
    """

    name: str
    summary: str
    rules: tuple[Rule, ...]
    places: Callable[[Sequence[Position]], Sequence[Mapping[str, int]]] = blocks_in_order
    raw_pixels: bool = False

    def translate(self, theirs: Mapping[str, Tensor]) -> dict[str, str]:
        """{name there: name here} of the tensors that a rule knows."""
        found = {name: self._rule(name, theirs) for name in theirs}
        known = {name: hit for name, hit in found.items() if hit is not None}
        numbers = {dims: self._numbers(known.values(), dims) for dims in {rule.dims for rule, _ in known.values()}}
        return {
            name: rule.name.format(**{**match.groupdict(), **numbers[rule.dims][_position(match)]}) + _tensor(name)
            for name, (rule, match) in known.items()
        }

    def _rule(self, name: str, theirs: Mapping[str, Tensor]) -> Hit | None:
        module = name.removesuffix(_tensor(name))
        weight = theirs.get(f"{module}.weight")
        for rule in self.rules:
            match = re.fullmatch(rule.pattern, module)
            if match and (rule.dims is None or (weight is not None and weight.dim() == rule.dims)):
                return rule, match
        return None

    def _numbers(self, hits: Iterable[Hit], dims: int | None) -> dict[Position, Mapping[str, int]]:
        """The numbers of every position; of none, where a name has no number."""
        positions = sorted({_position(match) for rule, match in hits if rule.dims == dims} - {()})
        numbers: dict[Position, Mapping[str, int]] = {(): {}}
        return numbers | dict(zip(positions, self.places(positions), strict=True))


def _position(match: re.Match[str]) -> Position:
    groups = match.groupdict()
    return tuple(int(groups[name]) for name in ("stage", "index") if name in groups)


def _tensor(name: str) -> str:
    """`.weight` of `layer1.0.conv1.weight`."""
    return "." + name.rpartition(".")[2]


DISTCOND = KeyMapping("distcond", "distcond's own networks, of any method", (Rule(r"(?P<same>.+)", "{same}"),))


_LAYER = r"layer(?P<stage>\d+)\.(?P<index>\d+)\."

TORCHVISION_RESNET = KeyMapping(
    "torchvision_resnet",
    "ResNets of torchvision and timm",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(r"bn1", "stem.norm"),
        Rule(_LAYER + r"conv(?P<unit>\d)", "blocks.{block}.unit{unit}.conv"),
        Rule(_LAYER + r"bn(?P<unit>\d)", "blocks.{block}.unit{unit}.norm"),
        Rule(_LAYER + r"downsample\.0", "blocks.{block}.shortcut.conv"),
        Rule(_LAYER + r"downsample\.1", "blocks.{block}.shortcut.norm"),
        Rule(r"fc|linear", "linear"),
    ),
)


KUANGLIU_RESNET = KeyMapping(
    "kuangliu_resnet",
    "ResNets of kuangliu's CIFAR code, RobustBench and most papers",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(r"bn1", "stem.norm"),
        Rule(_LAYER + r"conv(?P<unit>\d)", "blocks.{block}.unit{unit}.conv"),
        Rule(_LAYER + r"bn(?P<unit>\d)", "blocks.{block}.unit{unit}.norm"),
        Rule(_LAYER + r"shortcut\.0", "blocks.{block}.shortcut.conv"),
        Rule(_LAYER + r"shortcut\.1", "blocks.{block}.shortcut.norm"),
        Rule(r"linear|fc", "linear"),
    ),
)


KUANGLIU_PREACT = KeyMapping(
    "kuangliu_preact",
    "pre-activation ResNets of kuangliu's CIFAR code, RobustBench and most papers",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(_LAYER + r"bn1", "blocks.{block}.norm1.norm"),
        Rule(_LAYER + r"conv1", "blocks.{block}.unit1.conv"),
        Rule(_LAYER + r"bn2", "blocks.{block}.unit1.norm"),
        Rule(_LAYER + r"conv2", "blocks.{block}.conv2.conv"),
        Rule(_LAYER + r"shortcut\.0", "blocks.{block}.shortcut.conv"),
        Rule(r"bn", "last.norm"),
        Rule(r"linear|fc", "linear"),
    ),
)


_BLOCK = r"block(?P<stage>\d+)\.layer\.(?P<index>\d+)\."

WIDE_RESNET = KeyMapping(
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


_BUNDLE = r"bundle(?P<stage>\d+)\.(?P<index>\d+)\."

OAT_RESNET = KeyMapping(
    "oat_resnet",
    "ResNets of OAT's authors",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(r"bn1", "stem.norm"),
        Rule(r"bn1\.BN_c", "stem.norm.clean"),
        Rule(r"bn1\.BN_a", "stem.norm.adv"),
        Rule(r"film1\.MLP\.0", "stem.modulate.hidden"),
        Rule(r"film1\.MLP\.2", "stem.modulate.out"),
        Rule(_BUNDLE + r"conv(?P<unit>\d)", "blocks.{block}.unit{unit}.conv"),
        Rule(_BUNDLE + r"bn(?P<unit>\d)", "blocks.{block}.unit{unit}.norm"),
        Rule(_BUNDLE + r"bn(?P<unit>\d)\.BN_c", "blocks.{block}.unit{unit}.norm.clean"),
        Rule(_BUNDLE + r"bn(?P<unit>\d)\.BN_a", "blocks.{block}.unit{unit}.norm.adv"),
        Rule(_BUNDLE + r"film(?P<unit>\d)\.MLP\.0", "blocks.{block}.unit{unit}.modulate.hidden"),
        Rule(_BUNDLE + r"film(?P<unit>\d)\.MLP\.2", "blocks.{block}.unit{unit}.modulate.out"),
        Rule(_BUNDLE + r"conv_sc", "blocks.{block}.shortcut.conv"),
        Rule(_BUNDLE + r"bn_sc", "blocks.{block}.shortcut.norm"),
        Rule(_BUNDLE + r"bn_sc\.BN_c", "blocks.{block}.shortcut.norm.clean"),
        Rule(_BUNDLE + r"bn_sc\.BN_a", "blocks.{block}.shortcut.norm.adv"),
        Rule(r"linear", "linear"),
    ),
    raw_pixels=True,  # neither these authors' loaders nor their networks normalise
)


OAT_WIDE_RESNET = KeyMapping(
    "oat_wide_resnet",
    "wide ResNets of OAT's authors",
    (
        Rule(r"conv1", "stem.conv"),
        Rule(_BUNDLE + r"bn1\.BN_c", "blocks.{block}.norm1.norm.clean"),
        Rule(_BUNDLE + r"bn1\.BN_a", "blocks.{block}.norm1.norm.adv"),
        Rule(_BUNDLE + r"film1\.MLP\.0", "blocks.{block}.norm1.modulate.hidden"),
        Rule(_BUNDLE + r"film1\.MLP\.2", "blocks.{block}.norm1.modulate.out"),
        Rule(_BUNDLE + r"conv1", "blocks.{block}.unit1.conv"),
        Rule(_BUNDLE + r"bn2\.BN_c", "blocks.{block}.unit1.norm.clean"),
        Rule(_BUNDLE + r"bn2\.BN_a", "blocks.{block}.unit1.norm.adv"),
        Rule(_BUNDLE + r"film2\.MLP\.0", "blocks.{block}.unit1.modulate.hidden"),
        Rule(_BUNDLE + r"film2\.MLP\.2", "blocks.{block}.unit1.modulate.out"),
        Rule(_BUNDLE + r"conv2", "blocks.{block}.conv2.conv"),
        Rule(_BUNDLE + r"convShortcut", "blocks.{block}.shortcut.conv"),
        Rule(r"bn1\.BN_c", "last.norm.clean"),
        Rule(r"bn1\.BN_a", "last.norm.adv"),
        Rule(r"fc", "linear"),
    ),
    raw_pixels=True,  # neither these authors' loaders nor their networks normalise
)


#: Convolution, normalisation, activation.
_VGG_UNIT_LAYERS = 3


def vgg_positions(positions: Sequence[Position]) -> list[dict[str, int]]:
    """Stage and place in it: a pool between two stages makes the numbers of `features` run ahead by one."""
    stages = [index - positions[0][0] - _VGG_UNIT_LAYERS * number for number, (index,) in enumerate(positions)]
    return [{"part": stage, "unit": number - stages.index(stage)} for number, stage in enumerate(stages)]


VGG = KeyMapping(
    "vgg",
    "VGGs with batch normalisation of torchvision, timm and kuangliu's CIFAR code",
    (
        Rule(r"features\.(?P<index>\d+)", "stages.{part}.{unit}.conv", dims=4),
        Rule(r"features\.(?P<index>\d+)", "stages.{part}.{unit}.norm", dims=1),
        Rule(r"classifier|linear|fc", "linear"),
    ),
    vgg_positions,
)
