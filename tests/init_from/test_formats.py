"""Key mappings: names in checkpoints and names here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distcond.init_from.formats import KeyMapping
from distcond.init_from.matching import fold_biases
from distcond.models.tensor_roles import TensorRole, role_of
from distcond.registry import lookup, table

NAMES = {
    "distcond": {"blocks.3.unit1.norm.norms.1.adv.bias": "blocks.3.unit1.norm.norms.1.adv.bias"},
    "torchvision_resnet": {
        "conv1.weight": "stem.conv.weight",
        "bn1.running_var": "stem.norm.running_var",
        "layer1.0.conv3.weight": "blocks.0.unit3.conv.weight",
        "layer1.10.bn2.bias": "blocks.2.unit2.norm.bias",
        "layer1.2.bn2.bias": "blocks.1.unit2.norm.bias",
        "layer3.0.downsample.0.weight": "blocks.3.shortcut.conv.weight",
        "layer3.0.downsample.1.running_mean": "blocks.3.shortcut.norm.running_mean",
        "fc.bias": "linear.bias",
    },
    "kuangliu_resnet": {
        "layer1.0.conv1.weight": "blocks.0.unit1.conv.weight",
        "layer2.0.shortcut.0.weight": "blocks.1.shortcut.conv.weight",
        "layer2.0.shortcut.1.weight": "blocks.1.shortcut.norm.weight",
        "linear.weight": "linear.weight",
    },
    "kuangliu_preact": {
        "conv1.weight": "stem.conv.weight",
        "layer1.0.bn1.weight": "blocks.0.norm1.norm.weight",
        "layer1.0.bn2.weight": "blocks.0.unit1.norm.weight",
        "layer2.0.conv1.weight": "blocks.1.unit1.conv.weight",
        "layer2.0.conv2.weight": "blocks.1.conv2.conv.weight",
        "layer2.0.shortcut.0.weight": "blocks.1.shortcut.conv.weight",
        "bn.bias": "last.norm.bias",
    },
    "wide_resnet": {
        "block1.layer.0.bn1.weight": "blocks.0.norm1.norm.weight",
        "block2.layer.0.convShortcut.weight": "blocks.1.shortcut.conv.weight",
        "block2.layer.1.conv2.weight": "blocks.2.conv2.conv.weight",
        "bn1.weight": "last.norm.weight",
    },
    "oat_resnet": {
        "bn1.BN_a.weight": "stem.norm.adv.weight",
        "film1.MLP.2.bias": "stem.modulate.out.bias",
        "bundle1.0.film2.MLP.0.weight": "blocks.0.unit2.modulate.hidden.weight",
        "bundle2.0.bn_sc.BN_c.running_mean": "blocks.1.shortcut.norm.clean.running_mean",
        "bundle2.0.conv_sc.weight": "blocks.1.shortcut.conv.weight",
    },
    "oat_wide_resnet": {
        "bundle1.0.film1.MLP.0.weight": "blocks.0.norm1.modulate.hidden.weight",
        "bundle1.0.bn2.BN_c.weight": "blocks.0.unit1.norm.clean.weight",
        "bundle3.0.film2.MLP.2.weight": "blocks.1.unit1.modulate.out.weight",
        "bn1.BN_c.weight": "last.norm.clean.weight",
    },
}  # fmt: skip


def tensors(*names: str) -> dict[str, Tensor]:
    return {name: torch.zeros(1) for name in names}


@pytest.mark.parametrize("name", sorted(set(table("convention")) - {"vgg"}))
def test_known_names_are_translated(name: str) -> None:
    convention: KeyMapping = lookup("convention", name)
    strangers = (
        {} if name == "distcond" else tensors("encoder.0.weight", "layer1.0.other.weight", "sub_block1.x.weight")
    )
    assert convention.translate(tensors(*NAMES[name]) | strangers) == NAMES[name]


def test_vgg_layers_are_numbered_by_stage() -> None:
    theirs = {f"features.{index}.weight": torch.zeros(2, 2, 3, 3) for index in (0, 3, 7, 14)}
    theirs |= {f"features.{index}.running_mean": torch.zeros(2) for index in (1, 4, 8, 15)}
    theirs |= {f"features.{index}.weight": torch.zeros(2) for index in (1, 4, 8, 15)}
    theirs |= tensors("classifier.weight", "classifier.6.weight")
    found = lookup("convention", "vgg").translate(theirs)
    places = {0: "0.0", 3: "0.1", 7: "1.0", 14: "5.0"}
    for index, place in places.items():
        assert found[f"features.{index}.weight"] == f"stages.{place}.conv.weight"
        assert found[f"features.{index + 1}.running_mean"] == f"stages.{place}.norm.running_mean"
    assert found["classifier.weight"] == "linear.weight"
    assert "classifier.6.weight" not in found


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("stem.norm.weight", TensorRole("stem.norm.weight")),
        ("stem.norm.clean.bias", TensorRole("stem.norm.bias", 0, False)),
        ("a.norm.norms.2.adv.running_var", TensorRole("a.norm.running_var", 2, True)),
        ("linear.heads.1.weight", TensorRole("linear.weight", 1)),
        ("stem.conv.clean_mask", TensorRole("stem.conv.clean_mask")),
    ],
)
def test_tensors_per_width_and_path_share_a_role(name: str, place: TensorRole) -> None:
    assert role_of(name) == place


def test_biases_are_folded_into_running_means() -> None:
    given = {
        "a.conv.bias": torch.ones(2),
        "a.norm.running_mean": torch.tensor([3.0, 4.0]),
        "b.conv.bias": torch.ones(2),
    }
    found, folded = fold_biases(given)
    assert folded == ("a.conv.bias",)
    assert found["a.norm.running_mean"].tolist() == [2.0, 3.0]
    assert set(found) == {"a.norm.running_mean", "b.conv.bias"}
