from __future__ import annotations

from typing import Any

import pytest

from distcond.config.overrides import from_settings, resolve, to_settings
from distcond.config.schema import DataConfig
from distcond.data.prepare import infer_from_root, resolve_dataset
from distcond.errors import ConfigError
from distcond.registry import lookup
from distcond.runs.build import build_model


def test_default_settings_give_the_data_set() -> None:
    for name in ("cifar10", "cifar100", "digits", "svhn", "stl10"):
        assert resolve_dataset(DataConfig(name=name)) == lookup("data", name)
    tiny, imagenet = (resolve_dataset(DataConfig(name=name)) for name in ("tiny_imagenet", "imagenet"))
    assert (tiny.image_size, tiny.side, tiny.jpeg, tiny.augment.crop) == (64, 64, False, None)
    assert (imagenet.image_size, imagenet.side, imagenet.jpeg) == (224, 256, True)
    assert imagenet.augment.crop == (0.08, 1.0)


def test_settings_override_the_data_set() -> None:
    found = resolve_dataset(
        DataConfig(name="imagenet", image_size=64, num_classes=7, mean=(0.5, 0.5, 0.5), std=(1, 1, 1))
    )
    assert (found.image_size, found.side, found.num_classes) == (64, 64, 7)
    assert (found.mean, found.std) == ((0.5, 0.5, 0.5), (1, 1, 1))
    assert resolve_dataset(DataConfig(name="cifar10", mean=(0.5, 0.4, 0.3))).mean == (0.5, 0.4, 0.3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cifar10", "image_size": 64}, r"data\.image_size=64: cifar10 has 32; valid: 0, 32"),
        ({"name": "svhn", "num_classes": 11}, r"data\.num_classes=11: svhn has 10; valid: 0, 10"),
        ({"name": "stl10", "stored_size": 128}, r"data\.stored_size=128: stl10 has 96; valid: 0, 96"),
        ({"name": "imagenet", "stored_size": 200}, r"data\.stored_size=200: .*data\.image_size=224"),
        ({"name": "image_folder"}, r"data\.num_classes=0: .*data\.root"),
        ({"name": "image_folder", "num_classes": 3}, r"data\.image_size=0: .*data\.root"),
        ({"name": "cifar10", "mean": (0.5,)}, r"data\.mean=0\.5: "),
        ({"name": "cifar10", "std": (0.5, 0.5, 0)}, r"data\.std=0\.5,0\.5,0: "),
        ({"name": "cifar10", "mean": (0.5, 0.5, 127)}, r"data\.mean=0\.5,0\.5,127"),
    ],
)
def test_inconsistent_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as failure:
        resolve_dataset(DataConfig(**settings))
    assert "\n" not in str(failure.value)


def test_inferred_configs_need_no_root() -> None:
    stated = {"data": "image_folder", "data.num_classes": 5, "data.image_size": "48", "data.mean": "0.1,0.2,0.3"}
    config = resolve("float_digits", {**stated, "data.root": "/not/there"})
    assert infer_from_root(config.data) == config.data
    again = from_settings(to_settings(config))
    assert again == config
    model = build_model(again)
    assert model.backbone.linear.out_features == 5
    assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_fixed_data_sets_infer_nothing() -> None:
    for name in ("cifar10", "imagenet", "tiny_imagenet"):
        assert infer_from_root(DataConfig(name=name, root="/not/there")) == DataConfig(name=name, root="/not/there")
