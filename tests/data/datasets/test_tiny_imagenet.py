from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.config.schema import DataConfig
from distcond.data.datasets.tiny_imagenet import DATASET
from distcond.data.prepare import open_source, prepare_data
from distcond.errors import ConfigError

WNIDS = ("n01443537", "n01629819", "n02099601")


def small(on_disk: Any) -> dict[str, Any]:
    return {"train": on_disk.images(60, 64, 3), "test": on_disk.images(12, 64, 3, seed=1)}


def data(root: Path, **changes: Any) -> DataConfig:
    fixed = {"name": "tiny_imagenet", "root": str(root), "cache_dir": str(root / "cache"), "loader": "memory"}
    return DataConfig(**{**fixed, "num_classes": 3, **changes})


def everything(config: DataConfig, split: str) -> tuple[np.ndarray, np.ndarray]:
    source = open_source(prepare_data(config), split)
    (x, y), *_ = source.read([np.arange(len(source))])
    return x.numpy(), y.numpy()


@pytest.mark.parametrize("below", [".", "tiny-imagenet-200"])
def test_the_published_layout_is_read_exactly(tmp_path: Path, on_disk: Any, below: str) -> None:
    content = small(on_disk)
    (tmp_path / below).mkdir(exist_ok=True)
    on_disk.tiny_imagenet(tmp_path / below, content, WNIDS)
    x, y = everything(data(tmp_path), "test")
    assert np.array_equal(x, content["test"].images)
    assert np.array_equal(y, content["test"].labels)
    x, y = (
        np.concatenate(part) for part in zip(*(everything(data(tmp_path), s) for s in ("train", "val")), strict=True)
    )
    assert sorted(image.tobytes() for image in x) == sorted(image.tobytes() for image in content["train"].images)
    by_image = {image.tobytes(): label for image, label in zip(*content["train"], strict=True)}
    assert [by_image[image.tobytes()] for image in x] == y.tolist()
    assert np.bincount(everything(data(tmp_path), "val")[1]).tolist() == [2, 2, 2]


def test_the_hub_layout_is_read_exactly(tmp_path: Path, on_disk: Any) -> None:
    content = small(on_disk)
    on_disk.parquet(tmp_path / "data/train-00000-of-00001-1359597a978bc4fa.parquet", content["train"], column="image")
    on_disk.parquet(tmp_path / "data/valid-00000-of-00001-70d52db3c749a935.parquet", content["test"], column="image")
    x, y = everything(data(tmp_path), "test")
    assert np.array_equal(x, content["test"].images)
    assert np.array_equal(y, content["test"].labels)
    assert prepare_data(data(tmp_path)).sizes == {"train": 54, "val": 6, "test": 12}


def test_image_size_rescales(tmp_path: Path, on_disk: Any) -> None:
    on_disk.tiny_imagenet(tmp_path, small(on_disk), WNIDS)
    x, _ = everything(data(tmp_path, image_size=32), "test")
    assert x.shape == (12, 32, 32, 3)
    assert everything(data(tmp_path), "test")[0].shape == (12, 64, 64, 3)


def test_grey_images_become_colour(tmp_path: Path, on_disk: Any) -> None:
    on_disk.tiny_imagenet(tmp_path, small(on_disk), WNIDS)
    grey = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    (tmp_path / "val/images/val_0.JPEG").write_bytes(on_disk.encode(grey))
    x, _ = everything(data(tmp_path), "test")
    assert np.array_equal(x[0], np.stack([grey] * 3, axis=-1))


def lose_image(root: Path, on_disk: Any) -> None:
    (root / "val/images/val_3.JPEG").unlink()


def lose_tab(root: Path, on_disk: Any) -> None:
    (root / "val/val_annotations.txt").write_text("val_0.JPEG n01443537\n")


def lose_annotations(root: Path, on_disk: Any) -> None:
    (root / "val/val_annotations.txt").write_text("")


def foreign_class(root: Path, on_disk: Any) -> None:
    path = root / "val/val_annotations.txt"
    path.write_text(path.read_text().replace("n02099601", "n99999999"))


def empty_class(root: Path, on_disk: Any) -> None:
    (root / "train/n03000000/images").mkdir(parents=True)


def other_size(root: Path, on_disk: Any) -> None:
    (root / "val/images/val_5.JPEG").write_bytes(on_disk.encode(np.zeros((64, 48, 3), np.uint8)))


def broken(root: Path, on_disk: Any) -> None:
    path = root / f"train/{WNIDS[1]}/images/{WNIDS[1]}_1.JPEG"
    path = next((root / f"train/{WNIDS[1]}/images").iterdir()) if not path.exists() else path
    path.rename(path.with_name("broken.JPEG"))
    path.with_name("broken.JPEG").write_bytes(b"\xff\xd8\xff\xe0 not a JPEG")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lose_image, r"val_annotations\.txt, line 4 .*images/val_3\.JPEG"),
        (lose_tab, r"val_annotations\.txt, line 1: "),
        (lose_annotations, r"val_annotations\.txt is empty"),
        (foreign_class, r"val/images/val_\d+\.JPEG .*n99999999"),
        (empty_class, r"n03000000/images holds no image"),
        (other_size, r"val_5\.JPEG is 48x64, not 64x64"),
        (broken, r"broken\.JPEG cannot be decoded"),
    ],
)
def test_invalid_roots_are_refused(tmp_path: Path, on_disk: Any, harm: Any, message: str) -> None:
    on_disk.tiny_imagenet(tmp_path, small(on_disk), WNIDS)
    harm(tmp_path, on_disk)
    with pytest.raises(ConfigError, match=message) as failure:
        prepare_data(data(tmp_path))
    assert str(failure.value).startswith("data.root: ")
    assert "\n" not in str(failure.value)


def test_missing_classes_are_refused(tmp_path: Path, on_disk: Any) -> None:
    on_disk.tiny_imagenet(tmp_path, small(on_disk), WNIDS)
    with pytest.raises(ConfigError, match=r"3 classes.*200 .*data\.num_classes=3"):
        prepare_data(data(tmp_path, num_classes=0))
    # Files converted with another number of classes are not accepted.
    prepare_data(data(tmp_path))
    with pytest.raises(ConfigError, match=r"3 classes.*200"):
        prepare_data(data(tmp_path, num_classes=0))


def test_the_split_is_the_papers() -> None:
    assert DATASET.splits == {"train": 90_000, "val": 10_000, "test": 10_000}
    assert dataclasses.astuple(DATASET.augment)[:2] == (4, True)
