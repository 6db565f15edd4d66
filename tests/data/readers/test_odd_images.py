"""Damaged, odd and huge images and tables: read if possible, else refused with file and row."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from distcond.config.schema import DataConfig
from distcond.data.dataset import EncodedImage
from distcond.data.image_codec import decode_pixels
from distcond.data.prepare import infer_from_root, open_source, prepare_data
from distcond.errors import ConfigError

ROWS = 6
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def images(split: str) -> np.ndarray:
    return np.random.default_rng(len(split)).integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def write(root: Path, column: Callable[[str, np.ndarray], Any], name: str = "image") -> None:
    root.mkdir(exist_ok=True)
    for split in ("train", "val", "test"):
        cells = column(split, images(split))
        pq.write_table(pa.table({name: cells, "label": [0, 1] * (ROWS // 2)}), root / f"{split}.parquet")


def config(root: Path, name: str = "image_folder") -> DataConfig:
    return infer_from_root(DataConfig(name=name, root=str(root), cache_dir=str(root.parent / "cache"), loader="memory"))


def read(root: Path, split: str = "val", name: str = "image_folder") -> np.ndarray:
    source = open_source(prepare_data(config(root, name)), split)
    ((x, _),) = source.read([np.arange(len(source))])
    return np.asarray(x.numpy())


def named(root: Path) -> Callable[[str, np.ndarray], list[str]]:
    def column(split: str, found: np.ndarray) -> list[str]:
        folder = root / "files" / split
        folder.mkdir(parents=True)
        for row, image in enumerate(found):
            (folder / f"{row}.png").write_bytes(png(image))
        return [f"files/{split}/{row}.png" for row in range(len(found))]

    return column


@pytest.mark.parametrize(
    "kind", ["list of bytes", "pixels", "planes", "struct", "struct of data", "paths", "path struct"]
)
@pytest.mark.parametrize("dataset", ["image_folder", "cifar10"])
def test_every_form_of_image_column_is_read(tmp_path: Path, kind: str, dataset: str) -> None:
    root = tmp_path / "images"
    of_paths = named(root)
    write(
        root,
        {
            "list of bytes": lambda _, x: pa.array([list(png(one)) for one in x], pa.list_(pa.uint8())),
            "pixels": lambda _, x: x.tolist(),
            "planes": lambda _, x: x.transpose(0, 3, 1, 2).tolist(),
            "struct": lambda _, x: [{"path": "a.png", "bytes": png(one)} for one in x],
            "struct of data": lambda _, x: [{"data": png(one), "height": 32} for one in x],
            "paths": of_paths,
            "path struct": lambda split, x: [{"path": path} for path in of_paths(split, x)],
        }[kind],
    )
    split = "val" if dataset == "image_folder" else "test"  # CIFAR-10's own layout has no val
    assert np.array_equal(read(root, split, dataset), images(split))


def test_grey_pixels_become_colour(tmp_path: Path) -> None:
    write(tmp_path / "images", lambda _, x: x[..., 0].tolist(), name="pixels")
    assert np.array_equal(read(tmp_path / "images"), images("val")[..., :1].repeat(3, 3))


def test_linked_files_change_the_fingerprint(tmp_path: Path) -> None:
    root = tmp_path / "images"
    write(root, named(root))
    before = prepare_data(config(root)).fingerprint
    (root / "files/train/3.png").write_bytes(png(images("val")[0]))
    assert prepare_data(config(root)).fingerprint != before


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        (None, r"train\.parquet, row 3: there is no image"),
        (b"", r"train\.parquet, row 3: the image is empty"),
        (LFS, r"train\.parquet, row 3 cannot be decoded: a git-lfs pointer"),
        (png(images("a")[0])[:200], r"train\.parquet, row 3 cannot be decoded"),
        (b"<!DOCTYPE html><html>", r"row 3 cannot be decoded: a web page"),
        ({"bytes": None, "path": "x.png"}, r"train\.parquet, row 3: .* does not hold them"),
        ("missing.png", r"train\.parquet, row 3: refers to 'missing\.png'"),
        ([[[0, 256, 0]]], r"train\.parquet, row 3: the image is int64 \(1, 1, 3\)"),
        ([[[1, 2, 3], [4, 5]]], r"train\.parquet, row 3: the image is lists of unequal lengths"),
        (list(range(48)), r"train\.parquet, row 3: the image is int64 \(48,\)"),
    ],
)
@pytest.mark.parametrize("dataset", ["image_folder", "cifar10"])
def test_a_bad_row_is_named(tmp_path: Path, bad: Any, where: str, dataset: str) -> None:
    good: Any = png(images("train")[0])
    if isinstance(bad, dict):
        good = {"bytes": good, "path": "a.png"}
    elif isinstance(bad, str):
        (tmp_path / "good.png").write_bytes(good)
        good = "good.png"
    elif isinstance(bad, list):
        good = list(good) if isinstance(bad[0], int) else images("train")[0].tolist()
    write(tmp_path, lambda split, _: [good] * 3 + [bad if split == "train" else good] + [good] * 2)
    with pytest.raises(ConfigError, match=where) as refusal:
        read(tmp_path, name=dataset)
    assert "\n" not in str(refusal.value)


def test_pixels_outside_bytes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, lambda _, x: (x / 255).tolist())
    with pytest.raises(ConfigError, match=r"train\.parquet, row 0: the image is float64 \(32, 32, 3\)"):
        read(tmp_path)


def cut_table(root: Path) -> None:
    whole = (root / "val.parquet").read_bytes()
    (root / "val.parquet").write_bytes(whole[: len(whole) // 2])


def overwritten_table(root: Path) -> None:
    """Whole at both ends."""
    with open(root / "val.parquet", "r+b") as file:
        file.seek(4)
        file.write(b"\xff" * 3000)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (cut_table, r"val\.parquet is not a complete parquet file"),
        (overwritten_table, r"val\.parquet"),
        (lambda root: (root / "val.parquet").write_bytes(b""), r"val\.parquet .*: the file is empty"),
        (lambda root: (root / "val.parquet").write_bytes(LFS), r"val\.parquet .*: a git-lfs pointer"),
    ],
)
def test_damaged_tables_are_named(tmp_path: Path, change: Callable[[Path], None], where: str) -> None:
    write(tmp_path / "images", lambda _, x: [png(one) for one in x])
    change(tmp_path / "images")
    with pytest.raises(ConfigError, match=where) as refusal:
        read(tmp_path / "images")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_table_without_rows_is_refused(tmp_path: Path, split: str) -> None:
    write(tmp_path / "images", lambda _, x: [png(one) for one in x])
    path = tmp_path / "images" / f"{split}.parquet"
    pq.write_table(pq.read_table(path)[:0], path)
    with pytest.raises(ConfigError, match=r"there is no (training )?image"):
        read(tmp_path / "images")


def test_a_shard_without_rows_is_skipped(tmp_path: Path) -> None:
    write(tmp_path / "images", lambda _, x: [png(one) for one in x])
    pq.write_table(pa.table({"image": pa.nulls(0), "label": pa.nulls(0)}), tmp_path / "images" / "train-more.parquet")
    assert len(read(tmp_path / "images", "train")) == ROWS


def flat_png(side: int) -> bytes:
    """A black PNG that says it has `side` x `side` pixels, without their data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_huge_images_are_refused_by_name(side: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match=r"^data\.root: huge\.png cannot be decoded: .") as refusal:
            decode_pixels(EncodedImage(flat_png(side), "huge.png"), 32)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_transparent_palettes_are_read_without_a_warning(kind: str) -> None:
    image = Image.fromarray(images("a")[0]).quantize(16)
    out = io.BytesIO()
    image.save(out, kind, transparency=bytes(range(16)) if kind == "PNG" else 3)
    found = decode_pixels(EncodedImage(out.getvalue(), "a"), 32)
    assert np.array_equal(found, np.asarray(image.convert("RGB")))


def test_names_of_broken_files_are_printable(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for row in range(3):
                (tmp_path / split / name / f"{row}.png").write_bytes(png(images(split)[row]))
    (tmp_path / "train" / "b" / "2.png").write_bytes(LFS)
    os.rename(tmp_path / "train" / "b" / "2.png", os.fsencode(tmp_path / "train" / "b") + b"/\xff2.png")
    with pytest.raises(ConfigError, match=r"train/b/\\xff2\.png cannot be decoded: a git-lfs pointer"):
        read(tmp_path)
