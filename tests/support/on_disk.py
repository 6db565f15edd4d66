"""Writes small data sets in their original file formats. Tests of data get this module by the fixture `on_disk`."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from distcond.data.dataset import Arrays

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
Small = Mapping[str, Arrays]


def images(count: int, side: int, classes: int, seed: int = 0) -> Arrays:
    """Random images (count, side, side, 3) uint8 with labels, of every class if `count` allows."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return Arrays(pixels, rng.permutation(np.arange(count) % classes).astype(np.int64))


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth image like a photograph, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: np.ndarray, kind: str = "PNG") -> bytes:
    """An image as the bytes of a PNG, JPEG or lossless WEBP file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def parquet(
    path: Path,
    arrays: Arrays,
    kind: str = "PNG",
    column: str = "img",
    rows: slice = slice(None),
    label: str = "label",
) -> None:
    """One parquet file as published on hubs: an image struct<bytes, path> and a label per row."""
    encoded = [{"bytes": encode(image, kind), "path": None} for image in arrays.images[rows]]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(column, struct), (label, pa.int64())])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: encoded, label: arrays.labels[rows]}, schema=schema), path)


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
    """Pickles bytes like Python 2 strings, with numpy's old module names, as in the original files."""

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


def cifar100_pickles(root: Path, small: Small) -> None:
    """cifar-100-python/ with both labels."""
    (root / "cifar-100-python").mkdir()
    for name, arrays in small.items():
        batch = {
            b"filenames": [b"a.png"] * len(arrays.labels),
            b"fine_labels": arrays.labels.tolist(),
            b"coarse_labels": (arrays.labels // 5).tolist(),
            b"data": np.ascontiguousarray(arrays.images.transpose(0, 3, 1, 2)).reshape(len(arrays.labels), -1),
        }
        with open(root / "cifar-100-python" / name, "wb") as file:
            Python2Pickler(file, protocol=2).dump(batch)


def svhn_mats(root: Path, small: Small) -> None:
    """train_32x32.mat and test_32x32.mat: X (32, 32, 3, N), and y (N, 1) with 10 for the digit 0."""
    from scipy.io import savemat

    for split, arrays in small.items():
        y = np.where(arrays.labels == 0, 10, arrays.labels).astype(np.uint8)[:, None]
        savemat(root / f"{split}_32x32.mat", {"X": arrays.images.transpose(1, 2, 3, 0), "y": y}, do_compression=True)


def stl10_binary(root: Path, small: Small) -> None:
    """stl10_binary/: planes column by column, labels from 1."""
    (root / "stl10_binary").mkdir()
    for split, arrays in small.items():
        columns = np.ascontiguousarray(arrays.images.transpose(0, 3, 2, 1))
        columns.tofile(root / "stl10_binary" / f"{split}_X.bin")
        (arrays.labels + 1).astype(np.uint8).tofile(root / "stl10_binary" / f"{split}_y.bin")


def files(folder: Path, arrays: Arrays, names: Sequence[str], kind: str = "PNG", inner: str = "") -> None:
    """`folder/<class>/inner/<class>_<number>.<kind>`."""
    for row, (image, label) in enumerate(zip(*arrays, strict=True)):
        path = folder / names[label] / inner / f"{names[label]}_{row}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image, kind))


def tiny_imagenet(root: Path, small: Small, wnids: Sequence[str], kind: str = "PNG") -> None:
    """train/<wnid>/images/ and val/images/ with val_annotations.txt. The files end in .JPEG, whatever they hold."""
    files(root / "train", small["train"], wnids, kind, "images")
    (root / "val/images").mkdir(parents=True)
    lines = []
    for row, (image, label) in enumerate(zip(*small["test"], strict=True)):
        (root / f"val/images/val_{row}.JPEG").write_bytes(encode(image, kind))
        lines.append(f"val_{row}.JPEG\t{wnids[label]}\t0\t32\t44\t62\n")
    (root / "val/val_annotations.txt").write_text("".join(lines))
    for path in sorted((root / "train").glob(f"*/images/*.{kind}")):
        path.rename(path.with_suffix(".JPEG"))
