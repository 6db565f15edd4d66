from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.config.schema import DataConfig
from distcond.data.datasets.imagenet import DATASET
from distcond.data.prepare import prepare_data
from distcond.data.splits import hold_out_stratified
from distcond.errors import ConfigError

WNIDS = ("n01440764", "n01443537", "n02099601")


def data(root: Path, **changes: Any) -> DataConfig:
    fixed = {"name": "imagenet", "root": str(root), "cache_dir": str(root / "cache"), "loader": "memory"}
    return DataConfig(**{**fixed, "num_classes": 3, **changes})


def folders(root: Path, on_disk: Any) -> None:
    for split, count in (("train", 9), ("val", 6)):
        on_disk.files(root / split, on_disk.images(count, 40, 3), WNIDS, "JPEG")


def shards(root: Path, on_disk: Any) -> None:
    for split, count in (("train", 9), ("validation", 6)):
        content = on_disk.images(count, 40, 3)
        on_disk.parquet(root / f"data/{split}-00000-of-00001.parquet", content, "JPEG", "image")
    hidden = on_disk.images(4, 40, 3)
    hidden.labels[:] = -1
    on_disk.parquet(root / "data/test-00000-of-00001.parquet", hidden, "JPEG", "image")


@pytest.mark.parametrize("write", [folders, shards])
def test_the_official_validation_images_are_the_test(tmp_path: Path, on_disk: Any, write: Any) -> None:
    write(tmp_path, on_disk)
    found = prepare_data(data(tmp_path))
    assert found.sizes == {"train": 8, "val": 1, "test": 6}
    assert (found.image_size, found.folder.name.split("-")[2]) == (224, "256jpg")
    assert np.load(found.folder / "test.images.npy", mmap_mode="r").shape == (6, 256, 256, 3)


def test_missing_classes_are_refused(tmp_path: Path, on_disk: Any) -> None:
    folders(tmp_path, on_disk)
    with pytest.raises(ConfigError, match=r"3 classes.*1000"):
        prepare_data(data(tmp_path, num_classes=0))
    for path in (tmp_path / "train" / WNIDS[0]).iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match=r"train/n01440764 "):
        prepare_data(data(tmp_path))


def test_ten_images_per_class_are_held_out() -> None:
    labels = np.repeat(np.arange(1000), 1281)
    _, held = hold_out_stratified("imagenet", Fraction(10_000, 1_281_167))(labels)
    assert set(np.bincount(labels[held], minlength=1000)) <= {9, 10}
    assert sum(DATASET.splits.values()) == 1_281_167 + 50_000
