"""Key mappings: how families of checkpoints (torchvision, kuangliu, RobustBench, OAT) name their tensors, as data.

VGG: `features.N` counts every layer, activations and pools included. torchvision's classifier has three layers, the VGG
here has one: `classifier.0` to `.6` stay unused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

#: The numbers in a module's name: (stage, index) or (index,); () for a name without numbers.
Position = tuple[int, ...]


class Rule(NamedTuple):
    """Maps the name of one module in a checkpoint to its name here.

    Attributes:
        pattern: regular expression for the full name in the checkpoint. Its groups `stage` and `index` are the module's
            position.
        name: format string of the name in the reference model. `{block}` and other fields of `KeyMapping.number` stand
            for the position, other groups of the pattern for themselves.
        dims: if set, the rule applies only to modules whose weight has this many dimensions, and positions are numbered
            among these alone.
    """

    pattern: str
    name: str
    dims: int | None = None


RuleMatch = tuple[Rule, re.Match[str]]


def blocks_in_order(positions: Sequence[Position]) -> list[dict[str, int]]:
    """Number blocks through all stages: the `{block}` of each position."""
    return [{"block": number} for number in range(len(positions))]


@dataclass(frozen=True)
class KeyMapping:
    """How a family of checkpoints names its tensors.

    Attributes:
        name: of the mapping.
        summary: its line in `--list convention`.
        rules: the first one that matches a name counts.
        number: maps the sorted positions of a checkpoint to the numbers in names here.
        raw_pixels: whether networks with these names take pixels in [0, 1] without normalisation.
    """

    name: str
    summary: str
    rules: tuple[Rule, ...]
    number: Callable[[Sequence[Position]], Sequence[Mapping[str, int]]] = blocks_in_order
    raw_pixels: bool = False

    def translate(self, theirs: Mapping[str, Tensor]) -> dict[str, str]:
        """{name in the checkpoint: name here} of the tensors that a rule matches."""
        matches = {name: self._match(name, theirs) for name in theirs}
        known = {name: match for name, match in matches.items() if match is not None}
        numbers = {dims: self._numbers(known.values(), dims) for dims in {rule.dims for rule, _ in known.values()}}
        return {
            name: rule.name.format(**{**match.groupdict(), **numbers[rule.dims][_position(match)]}) + _suffix(name)
            for name, (rule, match) in known.items()
        }

    def _match(self, name: str, theirs: Mapping[str, Tensor]) -> RuleMatch | None:
        module = name.removesuffix(_suffix(name))
        weight = theirs.get(f"{module}.weight")
        for rule in self.rules:
            match = re.fullmatch(rule.pattern, module)
            if match and (rule.dims is None or (weight is not None and weight.dim() == rule.dims)):
                return rule, match
        return None

    def _numbers(self, matches: Iterable[RuleMatch], dims: int | None) -> dict[Position, Mapping[str, int]]:
        """The numbers of every position; none for ()."""
        positions = sorted({_position(match) for rule, match in matches if rule.dims == dims} - {()})
        numbers: dict[Position, Mapping[str, int]] = {(): {}}
        return numbers | dict(zip(positions, self.number(positions), strict=True))


def _position(match: re.Match[str]) -> Position:
    groups = match.groupdict()
    return tuple(int(groups[name]) for name in ("stage", "index") if name in groups)


def _suffix(name: str) -> str:
    """The parameter of a tensor's name: `.weight` of `layer1.0.conv1.weight`."""
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
    """Stage and unit within it. Each pool between two stages shifts the numbers of `features` by one."""
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
