from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from distcond.data.cifar10 import DATASET
from distcond.data.dataset import SPLITS, Arrays
from distcond.errors import ConfigError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
Small = Mapping[str, Arrays]


@pytest.fixture(scope="module")
def small() -> Small:
    """40 training and 10 test images, every class in each."""
    rng = np.random.default_rng(0)

    def make(count: int) -> Arrays:
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return Arrays(images, rng.permutation(np.arange(count) % 10).astype(np.int64))

    return {"train": make(40), "test": make(10)}


def encode(image: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def parquet(path: Path, arrays: Arrays, kind: str = "PNG", column: str = "img", rows: slice = slice(None)) -> None:
    images = [{"bytes": encode(image, kind), "path": None} for image in arrays.images[rows]]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(column, struct), ("label", pa.int64())])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: images, "label": arrays.labels[rows]}, schema=schema), path)


def parquet_plain(root: Path, small: Small) -> None:
    for split, arrays in small.items():
        parquet(root / f"{split}.parquet", arrays)


def parquet_shards(root: Path, small: Small) -> None:
    for shard in range(2):
        rows = slice(shard * 20, shard * 20 + 20)
        parquet(root / f"plain_text/train-0000{shard}-of-00002.parquet", small["train"], "WEBP", "image", rows)
    parquet(root / "plain_text/test-00000-of-00001.parquet", small["test"], "WEBP", "image")


def parquet_binary(root: Path, small: Small) -> None:
    (root / "data").mkdir()
    for split, arrays in small.items():
        table = pa.table({"image": [encode(image) for image in arrays.images], "label": arrays.labels.astype(np.int32)})
        pq.write_table(table, root / f"data/{split}.parquet")


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes bytes as Python 2 wrote its strings, and numpy's names as they were: the original files' form."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_python2_str(self, text: bytes) -> None:
        self.write(pickle.BINSTRING + len(text).to_bytes(4, "little") + text)

    def save_old_name(self, function: Any, name: str | None = None) -> None:
        module = function.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{function.__name__}\n".encode())

    dispatch[bytes] = save_python2_str
    dispatch[type(np.empty(0).__reduce__()[0])] = save_old_name


def batches(small: Small) -> dict[str, dict[bytes, Any]]:
    found = {}
    for number in range(5):
        rows = slice(number * 8, number * 8 + 8)
        found[f"data_batch_{number + 1}"] = Arrays(small["train"].images[rows], small["train"].labels[rows])
    found["test_batch"] = small["test"]
    return {
        name: {
            b"batch_label": name.encode(),
            b"labels": arrays.labels.tolist(),
            b"data": np.ascontiguousarray(arrays.images.transpose(0, 3, 1, 2)).reshape(len(arrays.labels), -1),
            b"filenames": [b"a_s_000001.png"] * len(arrays.labels),
        }
        for name, arrays in found.items()
    }


def pickles_python2(root: Path, small: Small) -> None:
    (root / "cifar-10-batches-py").mkdir()
    for name, batch in batches(small).items():
        with open(root / "cifar-10-batches-py" / name, "wb") as file:
            Python2Pickler(file, protocol=2).dump(batch)


def pickles_python3(root: Path, small: Small) -> None:
    for number, (name, batch) in enumerate(batches(small).items()):
        (root / name).write_bytes(pickle.dumps(batch, protocol=2 + number % 3))


def npz(root: Path, small: Small) -> None:
    (x_train, y_train), (x_test, y_test) = small["train"], small["test"]
    np.savez(root / "cifar10.npz", x_train=x_train, y_train=y_train[:, None], x_test=x_test, y_test=y_test)


def folder(root: Path, small: Small) -> None:
    for split, arrays in small.items():
        for row, (image, label) in enumerate(zip(*arrays, strict=True)):
            path = root / split / CLASSES[label] / f"{split}_{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(image))
    (root / "train/cat/.hidden.png").write_bytes(b"not an image")
    (root / "train/cat/labels.txt").write_text("not an image")


LAYOUTS = [parquet_plain, parquet_shards, parquet_binary, pickles_python2, pickles_python3, npz, folder]
Write = Callable[[Path, Small], None]


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_gives_the_same_arrays(tmp_path: Path, small: Small, write: Write) -> None:
    write(tmp_path, small)
    found = DATASET.read(str(tmp_path))
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
def test_the_fingerprint_follows_the_content_only(tmp_path: Path, small: Small, write: Write) -> None:
    roots = [tmp_path / name for name in ("one", "two", "changed")]
    pixel = small["test"].images.copy()
    pixel[3, 4, 5, 0] ^= 1
    for root, content in zip(
        roots, (small, small, {**small, "test": Arrays(pixel, small["test"].labels)}), strict=True
    ):
        root.mkdir()
        write(root, content)
    one, two, changed = (DATASET.fingerprint(str(root)) for root in roots)
    assert one == two != changed
    assert len(one) == 16


def test_a_folder_with_val_keeps_it(tmp_path: Path, small: Small) -> None:
    folder(tmp_path, {**small, "val": small["test"]})
    found = DATASET.read(str(tmp_path))
    assert len(found["train"].labels) == 40
    assert np.array_equal(found["val"].images, small["test"].images)


def test_a_folder_numbered_by_class_holds_out_every_class(tmp_path: Path, small: Small) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(CLASSES):
            for number in range(10 if split == "train" else 1):
                path = tmp_path / split / name / f"{name}_{number:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode(small["test"].images[label]))
    assert sorted(DATASET.read(str(tmp_path))["val"].labels) == list(range(10))


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
    tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch, content: bytes, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pickles_python3(tmp_path, small)
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"data\.root.*data_batch_3.*({name})"):
        DATASET.read(str(tmp_path))
    assert not (tmp_path / "harmed").exists()


def break_shards(root: Path, small: Small) -> None:
    parquet_shards(root, small)
    (root / "plain_text/train-00001-of-00002.parquet").unlink()


def break_cut(root: Path, small: Small) -> None:
    parquet_plain(root, small)
    (root / "train.parquet").write_bytes((root / "train.parquet").read_bytes()[:-100])


def break_columns(root: Path, small: Small) -> None:
    for split in small:
        pq.write_table(pa.table({"picture": [b""], "label": [1]}), root / f"{split}.parquet")


def break_bytes(root: Path, small: Small) -> None:
    for split in small:
        pq.write_table(pa.table({"img": [{"bytes": None, "path": "a.png"}], "label": [1]}), root / f"{split}.parquet")


def break_size(root: Path, small: Small) -> None:
    folder(root, small)
    (root / "train/dog/train_99.png").write_bytes(encode(np.zeros((16, 24, 3), np.uint8)))


def break_image(root: Path, small: Small) -> None:
    folder(root, small)
    (root / "train/dog/train_99.png").write_bytes(encode(small["train"].images[0])[:500])


def break_class(root: Path, small: Small) -> None:
    folder(root, small)
    (root / "test/boat").mkdir()
    (root / "test/boat/0.png").write_bytes(encode(small["train"].images[0]))


def break_npz_keys(root: Path, small: Small) -> None:
    np.savez(root / "cifar10.npz", x_train=small["train"].images)


def break_npz_objects(root: Path, small: Small) -> None:
    np.savez(root / "cifar10.npz", x_train=np.array([Harm()]), y_train=0, x_test=0, y_test=0)


def break_npz_cut(root: Path, small: Small) -> None:
    npz(root, small)
    (root / "cifar10.npz").write_bytes((root / "cifar10.npz").read_bytes()[:5000])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (break_shards, "1 of 2 shards of train"),
        (break_cut, "not a whole parquet file"),
        (break_columns, "needed: img or image, and label"),
        (break_bytes, "does not hold them"),
        (break_size, "is 24x16, not 32x32"),
        (break_image, "cannot be decoded"),
        (break_class, "boat"),
        (break_npz_keys, "plain arrays"),
        (break_npz_objects, "plain arrays"),
        (break_npz_cut, "plain arrays"),
    ],
)
def test_damaged_roots_say_what_is_wrong(tmp_path: Path, small: Small, write: Write, message: str) -> None:
    write(tmp_path, small)
    with pytest.raises(ConfigError, match=message) as failure:
        DATASET.read(str(tmp_path))
    assert str(failure.value).startswith("data.root")
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("root", ["", "missing", "file", "."])
def test_a_root_without_the_data_set_lists_the_layouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for ask in (DATASET.read, DATASET.fingerprint):
        with pytest.raises(ConfigError, match=r"data\.root") as failure:
            ask(root)
        for layout in ("train*.parquet", "cifar-10-batches-py/", "cifar10.npz", "train/<class>/*.png"):
            assert layout in str(failure.value)
        assert "\n" not in str(failure.value)
