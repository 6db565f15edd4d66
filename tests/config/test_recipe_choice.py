"""The recipe chosen for a data set without a recipe, or a refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.slurm.runs import SweepRequest, expand_runs
from distcond.config.command_line import parse
from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.registry import table
from distcond.results.labels import threat_model
from distcond.tune import parse_sweep


def folder(root: Path, side: int) -> str:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(8):
            file = root / split / f"class{number % 2}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file)
    return f"data.root={root}"


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        ("data=cifar10", "float_cifar10_resnet20"),
        ("data.name=cifar10", "float_cifar10_resnet20"),
        ("data=cifar10 method=oat", "oat_cifar10_resnet20"),
        ("data=cifar10 model=resnet18", "float_cifar10_resnet18"),
        ("data=stl10 method=oats", "oats_stl10_wrn40_2"),
        ("data=imagenet data.image_size=64", "float_tiny_imagenet_resnet34"),
        ("data=digits", "float_digits"),
        ("float_digits data=cifar10", "float_digits"),
    ],
)
def test_data_set_selects_its_recipe(words: str, recipe: str) -> None:
    assert parse(words.split()).config.recipe == recipe


def test_every_data_set_with_recipes_selects_one() -> None:
    for data in {recipe.settings.get("data", "digits") for recipe in table("recipe").values()}:
        config = parse([f"data={data}"]).config
        assert table("recipe")[config.recipe].settings.get("data", "digits") == data == config.data.name


@pytest.mark.parametrize(("side", "recipe"), [(32, "float_cifar10_resnet20"), (64, "float_tiny_imagenet_resnet34")])
def test_image_folder_selects_a_recipe_by_size(tmp_path: Path, side: int, recipe: str) -> None:
    command = parse(["data=image_folder", folder(tmp_path, side)])
    config = command.config
    assert (config.recipe, config.data.name) == (recipe, "image_folder")
    assert config.attack.epsilon == config.eval.attack.epsilon == pytest.approx(8 / 255)
    assert recipe in command.why and f"image_folder has {side}" in command.why
    assert threat_model(config).count("Linf eps=8/255") == 2


@pytest.mark.parametrize("side", [8, 200])
def test_folder_without_fitting_recipe_is_refused(tmp_path: Path, side: int) -> None:
    with pytest.raises(ConfigError, match=r"data=image_folder: no recipe .*float_tiny_imagenet_resnet34"):
        parse(["data=image_folder", folder(tmp_path, side)])


def test_a_root_without_data_set_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^data\.root=/images: which data set"):
        parse(["data.root=/images"])


def test_naming_the_method_again_keeps_options() -> None:
    assert parse(["data=cifar10", "method=floats"]).config == resolve("floats_cifar10_resnet20", {})


def test_sweeps_select_a_fitting_recipe(tmp_path: Path) -> None:
    runs = expand_runs(SweepRequest(args=("data=cifar10",), grid=("method=float,oat",)))
    assert [run.recipe for run in runs] == ["float_cifar10_resnet20", "oat_cifar10_resnet20"]
    space = parse_sweep(["noise_scale", "data=cifar100", f"dir={tmp_path / 'sweep'}"])[1]
    assert space.recipe == "float_cifar100_resnet34"


def test_the_threat_model_of_clean_training() -> None:
    assert threat_model(resolve("standard_digits", {})).startswith("trained on clean images, tested under PGD-20 Linf")
