from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.data.dataset import SPLITS, Arrays
from distcond.data.datasets.cifar import CIFAR10_DATASET
from distcond.errors import ConfigError

LAYOUTS = [
    "parquet_plain",
    "parquet_shards",
    "parquet_binary",
    "pickles_python2",
    "pickles_python3",
    "npz",
    "folder",
]


@pytest.fixture(scope="module")
def small(on_disk: Any) -> dict[str, Arrays]:
    """40 training and 10 test images, every class in each."""
    return {"train": on_disk.images(40, 32, 10), "test": on_disk.images(10, 32, 10, seed=1)}


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_gives_the_same_arrays(tmp_path: Path, on_disk: Any, small: Any, write: str) -> None:
    getattr(on_disk, write)(tmp_path, small)
    found = CIFAR10_DATASET.read(str(tmp_path))
    train, test = small["train"], small["test"]
    expected = {
        "train": Arrays(train.images[:36], train.labels[:36]),
        "val": Arrays(train.images[36:], train.labels[36:]),
        "test": test,
    }
    assert set(found) == set(SPLITS)
    for split in SPLITS:
        assert np.array_equal(found[split].images, expected[split].images)
        assert np.array_equal(found[split].labels, expected[split].labels)
        assert found[split].images.dtype == np.uint8
        assert found[split].labels.dtype == np.int64


@pytest.mark.parametrize("write", LAYOUTS)
def test_the_fingerprint_follows_the_content_only(tmp_path: Path, on_disk: Any, small: Any, write: str) -> None:
    roots = [tmp_path / name for name in ("one", "two", "changed")]
    pixel = small["test"].images.copy()
    pixel[3, 4, 5, 0] ^= 1
    for root, content in zip(
        roots, (small, small, {**small, "test": Arrays(pixel, small["test"].labels)}), strict=True
    ):
        root.mkdir()
        getattr(on_disk, write)(root, content)
    one, two, changed = (CIFAR10_DATASET.fingerprint(str(root)) for root in roots)
    assert one == two != changed
    assert len(one) == 16


def test_a_folder_with_val_keeps_it(tmp_path: Path, on_disk: Any, small: Any) -> None:
    on_disk.folder(tmp_path, {**small, "val": small["test"]})
    found = CIFAR10_DATASET.read(str(tmp_path))
    assert len(found["train"].labels) == 40
    assert np.array_equal(found["val"].images, small["test"].images)


def test_numbered_class_folders_hold_out_every_class(tmp_path: Path, on_disk: Any, small: Any) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(on_disk.CLASSES):
            for number in range(10 if split == "train" else 1):
                path = tmp_path / split / name / f"{name}_{number:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(on_disk.encode(small["test"].images[label]))
    assert sorted(CIFAR10_DATASET.read(str(tmp_path))["val"].labels) == list(range(10))


@pytest.mark.parametrize("root", ["", "missing", "file", "."])
def test_an_empty_root_lists_accepted_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for ask in (CIFAR10_DATASET.read, CIFAR10_DATASET.fingerprint):
        with pytest.raises(ConfigError, match=r"data\.root") as failure:
            ask(root)
        for layout in ("train*.parquet", "cifar-10-batches-py/", "cifar10.npz", "train/<class>/*.png"):
            assert layout in str(failure.value)
        assert "\n" not in str(failure.value)
