"""Entries of image folders: read, reported as ignored, or refused if images would be missed."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distcond.config.schema import DataConfig
from distcond.data.prepare import class_names, infer_from_root, prepare_data
from distcond.errors import ConfigError

CLASSES = ("cat", "dog")


def write(folder: Path, count: int = 6, suffix: str = ".png", seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for row in range(count):
            image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            image.save(folder / name / f"{row}{suffix}", None if suffix else "PNG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, split in enumerate(("train", "val", "test")):
        write(tmp_path / "images" / split, seed=seed)
    return tmp_path / "images"


def sizes(root: Path, name: str = "image_folder", **more: Any) -> dict[str, int]:
    config = infer_from_root(
        DataConfig(name=name, root=str(root), cache_dir=str(root.parent / "cache"), loader="memory", **more)
    )
    return dict(prepare_data(config).sizes)


@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".gif", ".jp2", ".ppm", ".tga", ".jfif", ".JPEG", ""])
def test_every_kind_of_image_is_read(root: Path, suffix: str) -> None:
    write(root / "train", count=3, suffix=suffix)
    assert sizes(root)["train"] == 12 + 6


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_val_has_other_names(root: Path, name: str) -> None:
    (root / "val").rename(root / name)
    assert sizes(root) == {"train": 12, "val": 12, "test": 12}
    shutil.rmtree(root / "test")
    assert sizes(root) == {"train": 11, "val": 1, "test": 12}


def test_two_names_of_val_are_refused(root: Path) -> None:
    write(root / "valid")
    with pytest.raises(ConfigError, match=r"data\.root: .* has val and valid"):
        sizes(root)


def nested(root: Path) -> None:
    (root / "train" / "cat" / "more" / "deep").mkdir(parents=True)
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / "more" / "deep")


def dangling(root: Path) -> None:
    for row in range(3):
        (root / "train" / "dog" / f"link{row}.png").symlink_to(root / "nowhere.png")


def circle(root: Path) -> None:
    (root / "train" / "dog" / "a.png").symlink_to(root / "train" / "dog" / "a.png")


def dangling_class(root: Path) -> None:
    (root / "train" / "emu").symlink_to(root / "nowhere")


def empty_class(root: Path) -> None:
    (root / "train" / "emu").mkdir()
    (root / "train" / "emu" / "notes.txt").write_text("none yet")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (nested, r"train/cat has more/: folders of images below"),
        (dangling, r"train/dog has 3 entries such as link0\.png: broken links"),
        (circle, r"train/dog has a\.png: broken links"),
        (dangling_class, r"train has emu: broken links"),
        (empty_class, r"train/emu holds no image"),
    ],
)
def test_missed_images_are_refused(root: Path, change: Callable[[Path], None], where: str) -> None:
    change(root)
    with pytest.raises(ConfigError, match=where) as refusal:
        sizes(root)
    assert "\n" not in str(refusal.value)


def test_valid_links_are_read(root: Path, tmp_path: Path) -> None:
    (root / "train" / "dog" / "link.png").symlink_to(root / "train" / "dog" / "0.png")
    (root / "train" / "dog").rename(tmp_path / "elsewhere")
    (root / "train" / "dog").symlink_to(tmp_path / "elsewhere")
    assert sizes(root)["train"] == 13


@pytest.mark.parametrize(
    "path",
    [
        "unlabeled/1.png",
        "train/README.md",
        "train/1.png",
        "test/dog/boxes.xml",
        "train/cat/empty/x.txt",
        "val/cat/.1.png",
    ],
)
def test_ignored_entries_are_reported(root: Path, path: str, caplog: Any) -> None:
    (root / path).parent.mkdir(exist_ok=True)
    (root / path).write_bytes(b"?")
    with caplog.at_level(logging.WARNING):
        assert sizes(root) == {"train": 12, "val": 12, "test": 12}
    (line,) = [record.getMessage() for record in caplog.records]
    entry = path.split("/")[0] if "unlabeled" in path else path.removesuffix("/x.txt")
    assert line.startswith(f"data.root={root}: ignored") and line.endswith(f": {entry}")


def test_many_ignored_entries_log_one_line(root: Path, caplog: Any) -> None:
    for row in range(5):
        (root / "train" / "cat" / f"{row}.txt").write_text("words")
    with caplog.at_level(logging.WARNING):
        sizes(root)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.endswith("5 entries such as train/cat/0.txt")


def test_system_files_are_not_reported(root: Path, caplog: Any) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", ".gitkeep"):
        (root / "train" / "cat" / name).write_bytes(b"?")
    with caplog.at_level(logging.WARNING):
        assert sizes(root)["train"] == 12
    assert not caplog.records


def test_fixed_size_folders_report_too(root: Path, caplog: Any, on_disk: Any) -> None:
    for split, count in (("train", 30), ("validation", 10), ("test", 10)):
        on_disk.files(root.parent / "cifar" / split, on_disk.images(count, 32, 10), on_disk.CLASSES)
    cifar = root.parent / "cifar"
    (cifar / "train" / "cat" / "list.csv").write_text("1,2")
    with caplog.at_level(logging.WARNING):
        assert sizes(cifar, "cifar10") == {"train": 30, "val": 10, "test": 10}
    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == ["train/cat/list.csv"]
    (cifar / "train" / "cat" / "x.png").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"train/cat has x\.png"):
        sizes(cifar, "cifar10")


def test_names_need_not_be_utf8(root: Path) -> None:
    os.rename(root / "train" / "cat" / "0.png", os.fsencode(root / "train" / "cat") + b"/\xe9t\xe9.png")
    for split in ("train", "val", "test"):
        os.rename(root / split / "dog", os.fsencode(root / split) + b"/chi\xe9n")
    config = infer_from_root(DataConfig(name="image_folder", root=str(root), cache_dir=str(root.parent / "cache")))
    assert prepare_data(config).sizes["train"] == 12
    assert class_names(config) == ("cat", r"chi\xe9n")


def test_a_pipe_among_images_is_refused(root: Path) -> None:
    os.mkfifo(root / "train" / "cat" / "pipe.png")
    with pytest.raises(ConfigError, match=r"data\.root: .*pipe\.png: not files \(pipes"):
        sizes(root)


def test_a_pipe_of_another_name_is_reported(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(root / "train" / "cat" / "pipe.fifo")
    assert sizes(root)["train"] == 12
