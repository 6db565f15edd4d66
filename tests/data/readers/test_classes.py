"""Class names and labels: one order for folders and words; invalid labels are refused by row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distcond.config.schema import DataConfig
from distcond.data.dataset import Arrays
from distcond.data.prepare import class_names, infer_from_root, open_source, prepare_data, resolve_dataset
from distcond.errors import ConfigError
from distcond.registry import lookup

FOLDERS = ("10", "2", "cat")
"""Class names of the labels 0, 1, 2."""


def data(root: Path, name: str = "image_folder", **changes: Any) -> DataConfig:
    changes = {"loader": "memory", "cache_dir": str(root / "cache"), **changes}
    return infer_from_root(DataConfig(name=name, root=str(root), **changes))


def labels(config: DataConfig, split: str = "test") -> list[int]:
    return open_source(prepare_data(config), split).labels.tolist()


def parquet(
    root: Path, on_disk: Any, train: Any, test: Any = None, label: str = "label", column: str = "image"
) -> None:
    for split, values in (("train", train), ("test", train if test is None else test)):
        blobs = [on_disk.encode(image) for image in on_disk.images(len(values), 8, 2).images]
        pq.write_table(pa.table({column: blobs, label: values}), root / f"{split}.parquet")


@pytest.fixture
def folders(tmp_path: Path, on_disk: Any) -> Path:
    for split, count in (("train", 30), ("test", 9)):
        arrays = on_disk.images(count, 8, 3)
        on_disk.files(tmp_path / split, Arrays(arrays.images, np.sort(arrays.labels)), FOLDERS)
    return tmp_path


@pytest.mark.parametrize(
    ("order", "names", "numbers"),
    [("natural", ("cat", "2", "10"), [0, 0, 0, 1, 1, 1, 2, 2, 2]), ("lexicographic", ("10", "2", "cat"), None)],
)
def test_folders_are_numbered_in_either_order(folders: Path, order: str, names: Any, numbers: Any) -> None:
    config = data(folders, class_order=order)
    assert class_names(config) == names
    found = labels(config)
    by_name = [names[number] for number in found]
    assert by_name == [name for name in ("10", "2", "cat") for _ in range(3)]
    assert numbers is None or sorted(found) == numbers


def test_orders_do_not_share_converted_files(folders: Path) -> None:
    natural, other = (prepare_data(data(folders, class_order=order)) for order in ("natural", "lexicographic"))
    assert natural.folder != other.folder
    assert natural.fingerprint == other.fingerprint


def test_class_order_without_names_is_refused(tmp_path: Path, on_disk: Any) -> None:
    parquet(tmp_path, on_disk, [0, 1] * 4)
    config = data(tmp_path)
    assert class_names(config) == ()
    with pytest.raises(ConfigError, match=r"data\.class_order=lexicographic"):
        class_names(replace(config, class_order="lexicographic"))


@pytest.mark.parametrize(
    ("train", "names", "numbers"),
    [
        (["dog", "cat", "10", "2"], ("cat", "dog", "2", "10"), [1, 0, 3, 2]),
        (pa.array(["b", "a", "b", "a"]).dictionary_encode(), ("a", "b"), [1, 0, 1, 0]),
        (pa.array(["b", "a", "b", "a"], pa.large_string()), ("a", "b"), [1, 0, 1, 0]),
        ([1.0, 0.0, 1.0, 0.0], (), [1, 0, 1, 0]),
        ([True, False, True, False], (), [1, 0, 1, 0]),
        (pa.array([1, 0, 1, 0], pa.uint8()), (), [1, 0, 1, 0]),
    ],
)
def test_labels_of_other_types_are_mapped(tmp_path: Path, on_disk: Any, train: Any, names: Any, numbers: Any) -> None:
    values = train if isinstance(train, list) else train.to_pylist()
    kind = None if isinstance(train, list) else train.type
    parquet(tmp_path, on_disk, pa.array(values * 2, kind), pa.array(values, kind))
    config = data(tmp_path)
    assert labels(config) == numbers
    assert class_names(config) == names


@pytest.mark.parametrize("name", ["image_folder", "cifar10"])
@pytest.mark.parametrize(
    ("bad", "what"),
    [(None, "missing"), (0.5, "0.5"), (float("nan"), "nan"), (float("inf"), "inf"), (1e30, "1e"), ([0, 1], "shape")],
)
def test_invalid_labels_are_refused(tmp_path: Path, on_disk: Any, name: str, bad: Any, what: str) -> None:
    values = [[0, 1]] * 8 if isinstance(bad, list) else [0.0, 1.0, bad, 0.0, 1.0, 0.0, 1.0, 0.0]
    parquet(tmp_path, on_disk, values)
    with pytest.raises(ConfigError, match=rf"train\.parquet.*{what}") as refusal:
        lookup("data", name).read(str(tmp_path))
    assert ", row 2:" in str(refusal.value) or what == "shape"


@pytest.mark.parametrize(
    ("train", "test", "where"),
    [
        (["a", "b"] * 4, ["a", "c"], r"test\.parquet, row 1: .*'c'"),
        (["a", " "] * 4, ["a", "a"], r"train\.parquet, row 1: .*' '"),
        (["a", "b"] * 4, [0, 1], "words in .*numbers in"),
        ([0, 1] * 4, [0, 7], r"labels reach 7; .*row 1"),
        ([0, 1] * 4, [0, -1], r"labels reach -1; .*row 1"),
        ([1, 2] * 4, [1, 2], "no image of class 0"),
        ([0] * 8, [0, 0], r"data\.num_classes=1"),
    ],
)
def test_inconsistent_labels_are_refused(tmp_path: Path, on_disk: Any, train: Any, test: Any, where: str) -> None:
    parquet(tmp_path, on_disk, train, test)
    with pytest.raises(ConfigError, match=where):
        prepare_data(data(tmp_path))


@pytest.mark.parametrize("change", [{"y_train": 290}, {"x_train": 290}, {"y_test": 19}])
def test_unequal_numbers_are_refused(tmp_path: Path, on_disk: Any, change: dict[str, int]) -> None:
    arrays = npz(on_disk)
    np.savez(tmp_path / "cifar10.npz", **{name: values[: change.get(name)] for name, values in arrays.items()})
    with pytest.raises(ConfigError, match=r"images, but .* labels"):
        lookup("data", "cifar10").read(str(tmp_path))


@pytest.mark.parametrize(
    ("y", "where"),
    [
        (np.where(np.arange(300) == 17, 0.5, 1.0), "row 17: the label is 0.5"),
        (np.array(["cat"] * 300), "row 0: the label is 'cat'"),
        (np.eye(10)[np.arange(300) % 10], "shape"),
        (np.zeros(300), "one class"),
    ],
)
def test_odd_labels_of_arrays_are_refused(tmp_path: Path, on_disk: Any, y: np.ndarray, where: str) -> None:
    np.savez(tmp_path / "cifar10.npz", **npz(on_disk) | {"y_train": y})
    with pytest.raises(ConfigError, match=where):
        prepare_data(data(tmp_path, "cifar10"))


def test_whole_floats_of_arrays_are_labels(tmp_path: Path, on_disk: Any) -> None:
    arrays = npz(on_disk)
    np.savez(tmp_path / "cifar10.npz", **{n: v.astype(float)[:, None] if n[0] == "y" else v for n, v in arrays.items()})
    config = data(tmp_path, "cifar10")
    assert labels(config) == arrays["y_test"].tolist()
    assert class_names(config)[:2] == ("airplane", "automobile")


def test_a_single_class_is_refused(folders: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.num_classes=1"):
        resolve_dataset(data(folders, num_classes=1))


def npz(on_disk: Any) -> dict[str, np.ndarray]:
    train, test = on_disk.images(300, 32, 10), on_disk.images(20, 32, 10, seed=1)
    return {"x_train": train.images, "y_train": train.labels, "x_test": test.images, "y_test": test.labels}
