"""A user's own images: layouts, stored form, and the same batches from both loaders."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distcond.config.schema import DataConfig
from distcond.data.image_codec import QUALITY
from distcond.data.loader import Loader, to_float
from distcond.data.prepare import infer_from_root, open_source, prepare_data, resolve_dataset
from distcond.data.transforms import apply_augment, draw_augment
from distcond.errors import ConfigError
from distcond.seeding import generator

NAMES = ("class 10", "class 2", "class 1")
ORDER = {"class 1": 0, "class 2": 1, "class 10": 2}


def data(root: Path, **changes: Any) -> DataConfig:
    return infer_from_root(DataConfig(name="image_folder", root=str(root), cache_dir=str(root / "cache"), **changes))


def everything(config: DataConfig, split: str) -> tuple[np.ndarray, np.ndarray]:
    source = open_source(prepare_data(config), split)
    (x, y), *_ = source.read([np.arange(len(source))])
    return x.numpy(), y.numpy()


@pytest.fixture
def squares(tmp_path: Path, on_disk: Any) -> Path:
    """60 and 12 PNG files of 64 pixels."""
    for split, count in (("train", 60), ("test", 12)):
        on_disk.files(tmp_path / split, on_disk.images(count, 64, 3), NAMES)
    return tmp_path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, on_disk: Any) -> Path:
    """73 JPEG files of many sizes about 224 pixels, some of them grey, one of them 256 square already."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(6)  # the first image of the last class is one whose middle is whole pixels
    for split, count in (("train", 60), ("val", 13)):
        for row in range(count):
            height, width = (256, 256) if row == 4 else rng.integers(180, 300, 2)
            image = on_disk.photo(int(height), int(width), seed=row)
            path = root / split / NAMES[row % 3] / f"{row}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(on_disk.encode(image[..., 0] if row % 10 == 3 else image, "JPEG"))
    return root


def test_small_squares_are_stored_exactly(squares: Path, on_disk: Any) -> None:
    config = data(squares, loader="memory")
    assert (config.num_classes, config.image_size) == (3, 64)
    x, y = everything(config, "test")
    content = on_disk.images(12, 64, 3)
    by_image = {image.tobytes(): ORDER[NAMES[label]] for image, label in zip(*content, strict=True)}
    assert [by_image.pop(image.tobytes()) for image in x] == y.tolist()
    assert not by_image
    assert prepare_data(config).sizes == {"train": 54, "val": 6, "test": 12}
    augment = resolve_dataset(config).augment
    assert (augment.pad, augment.flip, augment.crop) == (4, True, None)


def test_large_images_are_stored_as_jpeg(photos: Path) -> None:
    config = data(photos, loader="memory")
    assert (config.num_classes, config.image_size) == (3, 224)
    dataset = resolve_dataset(config)
    assert (dataset.side, dataset.jpeg) == (256, True)
    assert (dataset.augment.pad, dataset.augment.crop) == (0, (0.08, 1.0))
    assert prepare_data(config).sizes == {"train": 54, "val": 6, "test": 13}
    x, y = everything(config, "test")
    assert x.shape == (13, 224, 224, 3)
    # Class after class, as the files are listed.
    assert y.tolist() == [0] * 4 + [2] * 5 + [1] * 4


@pytest.mark.usefixtures("needs_ffcv")
@pytest.mark.parametrize("threads", [1, 3])
def test_both_loaders_give_the_same_bits(photos: Path, threads: int) -> None:
    batches = {}
    for loader in ("ffcv", "memory"):
        config = data(photos, loader=loader)
        for split in ("train", "test"):
            source = open_source(prepare_data(config), split, threads=threads)
            augment = resolve_dataset(config).augment if split == "train" else None
            passes = Loader(source, 32, 5, augment=augment, shuffle=split == "train")
            batches[loader, split] = list(passes.epoch(0))
    for split, size in (("train", 54), ("test", 13)):
        ours, theirs = batches["ffcv", split], batches["memory", split]
        assert sum(len(batch.y) for batch in ours) == size
        for one, other in zip(ours, theirs, strict=True):
            assert one.x.shape[1:] == (3, 224, 224)
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.y, other.y)


def test_ranks_interleave_to_one_processs_batches(photos: Path) -> None:
    config = data(photos, loader="memory")
    source, augment = open_source(prepare_data(config), "train"), resolve_dataset(config).augment
    (alone, *_) = Loader(source, 21, 5, augment=augment, shuffle=True).epoch(0)
    for rank in range(2):
        (share, *_) = Loader(source, 21, 5, rank, 2, augment=augment, shuffle=True).epoch(0)
        assert torch.equal(share.x, alone.x[rank::2])
        assert torch.equal(share.y, alone.y[rank::2])


def test_training_crops_the_whole_stored_image(photos: Path) -> None:
    config = data(photos, loader="memory")
    files, augment = prepare_data(config), resolve_dataset(config).augment
    (batch, *_) = Loader(open_source(files, "train"), 16, 5, augment=augment).epoch(0)
    stored = torch.from_numpy(np.load(files.folder / "train.images.npy")[:16])
    draws = draw_augment(16, augment, generator(5, "augment", 0, 0))
    assert torch.equal(batch.x, to_float(apply_augment(stored, draws, 224)))


@pytest.mark.usefixtures("needs_ffcv")
def test_jpegs_of_stored_size_keep_their_bytes(photos: Path) -> None:
    beton = (prepare_data(data(photos, loader="ffcv")).folder / "test.beton").read_bytes()
    kept, scaled = photos / "val" / NAMES[1] / "4.JPEG", photos / "val" / NAMES[0] / "0.JPEG"
    assert kept.read_bytes() in beton
    assert scaled.read_bytes() not in beton


def test_stored_images_are_centres_of_the_originals(photos: Path) -> None:
    from PIL import Image

    config = data(photos, loader="memory")
    x, _ = everything(config, "test")
    path = sorted((photos / "val" / NAMES[2]).iterdir())[0]
    with Image.open(path) as image:
        scale = 256 / min(image.size)
        scaled = image.convert("RGB").resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = (scaled.width - 224) // 2, (scaled.height - 224) // 2
    expected = np.asarray(scaled.crop((left, top, left + 224, top + 224)), dtype=np.int64)
    found = x[0].astype(np.int64)
    assert QUALITY == 90
    assert np.abs(found - expected).mean() < 2


def test_sizes_and_classes_can_be_set(squares: Path) -> None:
    config = data(squares, loader="memory", image_size=48, stored_size=56)
    assert resolve_dataset(config).jpeg
    x, _ = everything(config, "test")
    assert x.shape == (12, 48, 48, 3)
    with pytest.raises(ConfigError, match=r"3 classes.* 4 .*data\.num_classes=3"):
        prepare_data(data(squares, loader="memory", num_classes=4))
    assert data(squares / "not there", num_classes=3, image_size=64).num_classes == 3


def test_val_is_validation_next_to_test(squares: Path, on_disk: Any) -> None:
    on_disk.files(squares / "val", on_disk.images(9, 64, 3), NAMES)
    assert prepare_data(data(squares, loader="memory")).sizes == {"train": 60, "val": 9, "test": 12}


def test_parquet_equals_folders(tmp_path: Path, on_disk: Any) -> None:
    content = on_disk.images(12, 20, 3)
    on_disk.parquet(tmp_path / "data/train-00000-of-00002.parquet", content, column="image", rows=slice(0, 6))
    on_disk.parquet(tmp_path / "data/train-00001-of-00002.parquet", content, column="image", rows=slice(6, None))
    on_disk.parquet(tmp_path / "data/test-00000-of-00001.parquet", content, column="image")
    config = data(tmp_path, loader="memory")
    assert (config.num_classes, config.image_size) == (3, 20)
    x, y = everything(config, "test")
    assert np.array_equal(x, content.images)
    assert np.array_equal(y, content.labels)
    train, val = (everything(config, split) for split in ("train", "val"))
    assert len(val[1]) == 1
    kept = {image.tobytes() for image in (*train[0], *val[0])}
    assert kept == {image.tobytes() for image in content.images}


def empty(root: Path, on_disk: Any) -> None:
    for split in ("train", "test"):
        (root / split).rename(root / f"gone {split}")
        (root / split).mkdir()


def empty_class(root: Path, on_disk: Any) -> None:
    (root / "train/class 3").mkdir()


def foreign_class(root: Path, on_disk: Any) -> None:
    on_disk.files(root / "test", on_disk.images(1, 64, 1), ["boat"])


def broken(root: Path, on_disk: Any) -> None:
    path = root / "train/class 2/broken.png"
    path.write_bytes(on_disk.encode(on_disk.photo(64, 64))[:200])


def deep(root: Path, on_disk: Any) -> None:
    from PIL import Image

    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(root / "train/class 2/deep.png")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (empty, r"train is empty"),
        (empty_class, r"train/class 3 holds no image"),
        (foreign_class, r"test/boat/boat_0\.PNG .*class boat"),
        (broken, r"train/class 2/broken\.png cannot be decoded"),
        (deep, r"train/class 2/deep\.png .*I;16"),
    ],
)
def test_invalid_roots_are_refused(squares: Path, on_disk: Any, harm: Any, message: str) -> None:
    harm(squares, on_disk)
    with pytest.raises(ConfigError, match=message) as failure:
        prepare_data(data(squares, loader="memory"))
    assert str(failure.value).startswith("data.root: ")
    assert "\n" not in str(failure.value)


def test_a_class_without_test_images_warns(squares: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (squares / "test/class 2").iterdir():
        path.unlink()
    (squares / "test/class 2").rmdir()
    with caplog.at_level(logging.WARNING):
        prepare_data(data(squares, loader="memory"))
    assert "image_folder test: no image of 1 of 3 classes" in caplog.text


def test_a_missing_folder_lists_layouts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"image_folder .*train/<class>/\*\.jpg, .*train\*\.parquet"):
        data(tmp_path)
