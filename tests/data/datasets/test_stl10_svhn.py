"""CIFAR-100, SVHN and STL-10 in their published layouts: exact pixels, labels and splits."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.data.dataset import Dataset
from distcond.data.splits import hold_out_last, hold_out_stratified
from distcond.errors import ConfigError
from distcond.registry import lookup

CIFAR100, SVHN, STL10 = (lookup("data", name) for name in ("cifar100", "svhn", "stl10"))


def small(on_disk: Any, dataset: Dataset, train: int = 100, test: int = 20) -> dict[str, Any]:
    shape = (dataset.image_size, min(dataset.num_classes, test))
    return {"train": on_disk.images(train, *shape), "test": on_disk.images(test, *shape, seed=1)}


def cifar100_parquet(root: Path, content: Any, on_disk: Any) -> None:
    for split, arrays in content.items():
        on_disk.parquet(root / f"cifar100/{split}-00000-of-00001.parquet", arrays, label="fine_label")


def svhn_parquet(root: Path, content: Any, on_disk: Any) -> None:
    for split, arrays in content.items():
        on_disk.parquet(root / f"cropped_digits/{split}-00000-of-00001.parquet", arrays, column="image")


def npz(root: Path, content: Any, on_disk: Any) -> None:
    on_disk.npz(root, content)
    for name in ("cifar100", "svhn", "stl10"):
        (root / f"{name}.npz").write_bytes((root / "cifar10.npz").read_bytes())


@pytest.mark.parametrize(
    ("dataset", "write"),
    [
        (CIFAR100, "cifar100_pickles"),
        (CIFAR100, cifar100_parquet),
        (CIFAR100, npz),
        (SVHN, "svhn_mats"),
        (SVHN, svhn_parquet),
        (SVHN, npz),
        (STL10, "stl10_binary"),
        (STL10, npz),
    ],
)
def test_the_published_layout_is_read_exactly(tmp_path: Path, on_disk: Any, dataset: Dataset, write: Any) -> None:
    content = small(on_disk, dataset)
    if isinstance(write, str):
        getattr(on_disk, write)(tmp_path, content)
    else:
        write(tmp_path, content, on_disk)
    found = dataset.read(str(tmp_path))
    assert np.array_equal(found["test"].images, content["test"].images)
    assert np.array_equal(found["test"].labels, content["test"].labels)
    train, val = found["train"], found["val"]
    if dataset is STL10:
        assert np.bincount(val.labels).tolist() == [1] * 10
        stay, held = hold_out_stratified("stl10", Fraction(1, 10))(content["train"].labels)
    else:
        stay, held = slice(0, -len(val.labels)), slice(-len(val.labels), None)
        assert len(val.labels) == (10 if dataset is CIFAR100 else 6)
    for part, rows in ((train, stay), (val, held)):
        assert np.array_equal(part.images, content["train"].images[rows])
        assert np.array_equal(part.labels, content["train"].labels[rows])
        assert part.images.dtype == np.uint8 and part.labels.dtype == np.int64
    assert len(dataset.fingerprint(str(tmp_path))) == 16


def test_the_splits_are_those_of_the_papers() -> None:
    labels = np.zeros(73_257, np.int64)
    stay, held = hold_out_last(Fraction(5_000, 73_257))(labels)
    assert (stay, held) == (slice(0, 68_257), slice(68_257, 73_257))
    assert hold_out_last(Fraction(1, 10))(labels[:50_000]) == (slice(0, 45_000), slice(45_000, 50_000))
    stay, held = hold_out_stratified("stl10", Fraction(1, 10))(np.arange(5_000) % 10)
    assert (len(stay), len(held)) == (4_500, 500)
    assert np.bincount(np.arange(5_000)[held] % 10).tolist() == [50] * 10


def test_random_splits_never_change() -> None:
    # A run resumed from an old checkpoint would otherwise train on what chose it.
    _, stl10 = hold_out_stratified("stl10", Fraction(1, 10))(np.arange(5_000) % 10)
    _, tiny = hold_out_stratified("tiny_imagenet", Fraction(1, 10))(np.arange(1_000) % 20)
    assert stl10[:6].tolist() == [2, 11, 24, 38, 44, 46]
    assert tiny[:6].tolist() == [11, 12, 30, 38, 39, 49]


def break_mat_keys(root: Path, content: Any, on_disk: Any) -> None:
    from scipy.io import savemat

    on_disk.svhn_mats(root, content)
    savemat(root / "test_32x32.mat", {"X": content["test"].images, "labels": [1]})


def break_mat_shape(root: Path, content: Any, on_disk: Any) -> None:
    from scipy.io import savemat

    on_disk.svhn_mats(root, content)
    savemat(root / "test_32x32.mat", {"X": content["test"].images, "y": content["test"].labels})


def break_mat_cut(root: Path, content: Any, on_disk: Any) -> None:
    on_disk.svhn_mats(root, content)
    (root / "train_32x32.mat").write_bytes((root / "train_32x32.mat").read_bytes()[:3000])


def break_mat_label(root: Path, content: Any, on_disk: Any) -> None:
    content["test"].labels[3] = 11
    on_disk.svhn_mats(root, content)


def break_bin_cut(root: Path, content: Any, on_disk: Any) -> None:
    on_disk.stl10_binary(root, content)
    path = root / "stl10_binary/test_X.bin"
    path.write_bytes(path.read_bytes()[:-1])


def break_bin_label(root: Path, content: Any, on_disk: Any) -> None:
    content["train"].labels[3] = -1  # 0 in the file
    on_disk.stl10_binary(root, content)


def break_bin_published(root: Path, content: Any, on_disk: Any) -> None:
    on_disk.stl10_binary(root, content)
    (root / "stl10_binary/train_y.bin").write_bytes(b"\1" * 5_000)


def break_parquet_label(root: Path, content: Any, on_disk: Any) -> None:
    content["train"].labels[0] = 100
    cifar100_parquet(root, content, on_disk)


def break_pickle_label(root: Path, content: Any, on_disk: Any) -> None:
    content["train"].labels[0] = 100
    on_disk.cifar100_pickles(root, content)


@pytest.mark.parametrize(
    ("dataset", "write", "message"),
    [
        (SVHN, break_mat_keys, r"test_32x32\.mat has no variable 'y'; needed: X and y"),
        (SVHN, break_mat_shape, r"test_32x32\.mat: X is uint8 \(20, 32, 32, 3\); needed: uint8 \(32, 32, 3, 20\)"),
        (SVHN, break_mat_cut, r"train_32x32\.mat is not a complete MATLAB file"),
        (SVHN, break_mat_label, r"test_32x32\.mat: labels reach 11; needed: 0 to 9"),
        (STL10, break_bin_cut, r"test_X\.bin has 552959 bytes; 20 labels need 552960"),
        (STL10, break_bin_label, r"train_y\.bin \(which counts from 1\): labels reach -1; needed: 0 to 9"),
        (STL10, break_bin_published, r"train_y\.bin is damaged: its MD5 is not the published"),
        (CIFAR100, break_parquet_label, r"train-00000-of-00001\.parquet: labels reach 100; needed: 0 to 99"),
        (CIFAR100, break_pickle_label, r"cifar-100-python/train: labels reach 100; needed: 0 to 99"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, on_disk: Any, dataset: Dataset, write: Any, message: str) -> None:
    write(tmp_path, small(on_disk, dataset), on_disk)
    with pytest.raises(ConfigError, match=message) as failure:
        dataset.read(str(tmp_path))
    assert str(failure.value).startswith("data.root: ")
    assert "\n" not in str(failure.value)


def test_svhn_without_scipy_is_refused(tmp_path: Path, on_disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk.svhn_mats(tmp_path, small(on_disk, SVHN))
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ConfigError, match=r"train_32x32\.mat .*pip install scipy"):
        SVHN.read(str(tmp_path))
