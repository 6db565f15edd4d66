from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distcond.data.dataset import Arrays
from distcond.data.datasets.cifar import CIFAR10_DATASET
from distcond.data.prepare import prepare_dataset
from distcond.errors import ConfigError


@pytest.fixture(scope="module")
def small(on_disk: Any) -> dict[str, Arrays]:
    """40 training and 10 test images, every class in each."""
    return {"train": on_disk.images(40, 32, 10), "test": on_disk.images(10, 32, 10, seed=1)}


class Harm:
    def __reduce__(self) -> Any:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (pickle.dumps({b"data": Harm(), b"labels": []}), "posix.system"),
        (pickle.dumps({b"data": getattr, b"labels": []}), "builtins.getattr"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"cnumpy\nndarray.tofile\n.", "numpy.ndarray.tofile"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00zliblt\x81.", "codec|not a batch"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00utf_32tR.", "codec 'utf_32'"),
        (b"not a pickle", "not a batch"),
        (pickle.dumps({b"labels": [1]}), "KeyError"),
        (pickle.dumps([1]), "not a batch"),
    ],
)
def test_a_pickle_that_asks_for_more_is_refused(
    tmp_path: Path, on_disk: Any, small: Any, monkeypatch: pytest.MonkeyPatch, content: bytes, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    on_disk.pickles_python3(tmp_path, small)
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"data\.root.*data_batch_3.*({name})"):
        CIFAR10_DATASET.read(str(tmp_path))
    assert not (tmp_path / "harmed").exists()


def opcodes(*parts: bytes) -> bytes:
    """A pickle whose b"data" is what the parts leave on the stack."""
    return b"\x80\x02}(C\x04data" + b"".join(parts) + b"C\x06labels](K\x00eu."


MAKE = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
OBJECTS = b"cnumpy\ndtype\n(C\x01OK\x00K\x01tR"
BYTES = b"cnumpy\ndtype\n(C\x02u1K\x00K\x01tR"
FLAGS = b"(K\x03C\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft"
FAKE = b"C\x08" + b"\x41" * 8


@pytest.mark.parametrize(
    "value",
    [
        b"cnumpy\nndarray\n(K\x01\x85C\x01O" + FAKE + b"tR",  # ndarray((1,), "O", buffer)
        OBJECTS,
        MAKE + b"(K\x01(K\x01t" + OBJECTS + b"\x89" + FAKE + b"tb",
        MAKE + b"(K\x01(K\x01t" + BYTES + FLAGS + b"b\x89]" + FAKE + b"atb",  # bytes that are said to be objects
        MAKE + b"(K\x01(J\x00\x00\x00\x7fK\x7ft" + BYTES + b"\x89" + FAKE + b"tb",  # more than there are bytes
        MAKE + b"(K\x01(J\xff\xff\xff\xffJ\xf8\xff\xff\xfft" + BYTES + b"\x89" + FAKE + b"tb",  # a negative shape
        b"cnumpy.core.multiarray\n_reconstruct\n}C\x08__dict__C\x01asb",  # changes a function
        b"cnumpy\ndtype\nC\x01a\x85\x81",
        b"C\x01a" + b"r\xff\xff\xff\x7f",  # remembered as number 2^31 - 1
        b"\x8e" + b"\xff" * 7 + b"\x0f",  # longer than any file
    ],
)  # fmt: skip
def test_hostile_arrays_are_refused(tmp_path: Path, on_disk: Any, small: Any, value: bytes) -> None:
    on_disk.pickles_python3(tmp_path, small)
    (tmp_path / "data_batch_3").write_bytes(opcodes(value))
    with pytest.raises(ConfigError, match=r"data\.root.*data_batch_3 is not a batch of CIFAR: "):
        CIFAR10_DATASET.read(str(tmp_path))


def break_shards(root: Path, small: Any, on_disk: Any) -> None:
    on_disk.parquet_shards(root, small)
    (root / "plain_text/train-00001-of-00002.parquet").unlink()


def break_cut(root: Path, small: Any, on_disk: Any) -> None:
    on_disk.parquet_plain(root, small)
    (root / "train.parquet").write_bytes((root / "train.parquet").read_bytes()[:-100])


def break_columns(root: Path, small: Any, on_disk: Any) -> None:
    for split in small:
        pq.write_table(pa.table({"picture": [b""], "label": [1]}), root / f"{split}.parquet")


def break_bytes(root: Path, small: Any, on_disk: Any) -> None:
    for split in small:
        pq.write_table(pa.table({"img": [{"bytes": None, "path": "a.png"}], "label": [1]}), root / f"{split}.parquet")


def break_size(root: Path, small: Any, on_disk: Any) -> None:
    on_disk.folder(root, small)
    (root / "train/dog/train_99.png").write_bytes(on_disk.encode(np.zeros((16, 24, 3), np.uint8)))


def break_image(root: Path, small: Any, on_disk: Any) -> None:
    on_disk.folder(root, small)
    (root / "train/dog/train_99.png").write_bytes(on_disk.encode(small["train"].images[0])[:500])


def break_class(root: Path, small: Any, on_disk: Any) -> None:
    on_disk.folder(root, small)
    (root / "test/boat").mkdir()
    (root / "test/boat/0.png").write_bytes(on_disk.encode(small["train"].images[0]))


def break_npz_keys(root: Path, small: Any, on_disk: Any) -> None:
    np.savez(root / "cifar10.npz", x_train=small["train"].images)


def break_npz_objects(root: Path, small: Any, on_disk: Any) -> None:
    np.savez(root / "cifar10.npz", x_train=np.array([Harm()]), y_train=0, x_test=0, y_test=0)


def break_npz_cut(root: Path, small: Any, on_disk: Any) -> None:
    on_disk.npz(root, small)
    (root / "cifar10.npz").write_bytes((root / "cifar10.npz").read_bytes()[:5000])


def break_npz_bomb(root: Path, small: Any, on_disk: Any) -> None:
    """As large as a data set of ten million images, all of them zero."""
    on_disk.npz(root, small)
    with zipfile.ZipFile(root / "cifar10.npz") as archive:
        others = {name: archive.read(name) for name in archive.namelist() if name != "x_train.npy"}
    with zipfile.ZipFile(root / "cifar10.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in others.items():
            archive.writestr(name, content)
        with archive.open("x_train.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "|u1", "fortran_order": False, "shape": (10**7, 32, 32, 3)}
            )
        archive.getinfo("x_train.npy").file_size = 128 + 3072 * 10**7


@pytest.mark.parametrize("write", ["npz", "parquet_plain"])
def test_conversion_refuses_an_empty_split(tmp_path: Path, on_disk: Any, small: Any, write: str) -> None:
    empty = Arrays(small["test"].images[:0], small["test"].labels[:0])
    getattr(on_disk, write)(tmp_path, small | {"test": empty})
    with pytest.raises(ConfigError, match=r"^data\.root: cifar10 test: "):
        prepare_dataset(CIFAR10_DATASET, str(tmp_path), str(tmp_path / "cache"), "memory")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (break_shards, "1 of 2 shards of train"),
        (break_cut, "not a complete parquet file"),
        (break_columns, "needed: img or image, and label"),
        (break_bytes, "does not hold them"),
        (break_size, "train/dog/train_99.png is 24x16, not 32x32"),
        (break_image, "train/dog/train_99.png cannot be decoded"),
        (break_class, "boat"),
        (break_npz_keys, "plain arrays"),
        (break_npz_objects, "plain arrays"),
        (break_npz_cut, "plain arrays"),
        (break_npz_bomb, r"x_train would decompress to 30\.7 GB; .*at most 0\.154 GB"),
    ],
)
def test_damaged_roots_are_refused(tmp_path: Path, on_disk: Any, small: Any, write: Any, message: str) -> None:
    write(tmp_path, small, on_disk)
    with pytest.raises(ConfigError, match=message) as failure:
        CIFAR10_DATASET.read(str(tmp_path))
    assert str(failure.value).startswith("data.root")
    assert "\n" not in str(failure.value)
