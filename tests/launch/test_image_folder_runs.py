"""Runs on folders of a user's own images."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distcond.data.ffcv.source import ffcv_problem
from distcond.results.store import read_rows
from distcond.runs.run_dir import RunDir
from support import launch_run

COUNTS = {"train": 160, "test": 40}


def write_small_images(root: Path) -> None:
    """200 PNG files of 64 pixels in 4 classes."""
    rng = np.random.default_rng(0)
    for split, row in ((split, row) for split, count in COUNTS.items() for row in range(count)):
        image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        save(image, root / split / f"class{row % 4}" / f"{row}.png", "PNG")


def write_photographs(root: Path) -> None:
    """200 JPEG files of many sizes about 224 pixels in 4 classes, every tenth one grey."""
    rng = np.random.default_rng(0)
    for split, row in ((split, row) for split, count in COUNTS.items() for row in range(count)):
        image = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        image = image.resize(tuple(int(side) for side in rng.integers(190, 290, 2)))
        save(image.convert("L") if row % 10 == 0 else image, root / split / f"class{row % 4}" / f"{row}.jpg", "JPEG")


def save(image: Image.Image, path: Path, kind: str) -> None:
    out = io.BytesIO()
    image.save(out, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())


@pytest.fixture
def settings(place: Any) -> tuple[str, ...]:
    """Settings of a run on the images of this test."""
    if problem := ffcv_problem():
        pytest.skip(f"FFCV does not import: {problem}")
    return (
        *("data=image_folder", f"data.root={place.path / 'images'}", f"data.cache_dir={place.path / 'cache'}"),
        *("data.loader=ffcv", "epochs=1"),
        *("train_examples=32", "batch_size=16", "eval.train_examples=0", "model.widths=2,4"),
        *("eval.val_examples=4", "eval.test_examples=8", "eval.batch_size=4"),
    )


@pytest.mark.parametrize(
    ("write", "size", "stored"),
    [(write_small_images, 64, "64raw"), pytest.param(write_photographs, 224, "256jpg", marks=pytest.mark.cluster)],
)
def test_run_on_image_folder(place: Any, settings: tuple[str, ...], write: Any, size: int, stored: str) -> None:
    write(place.path / "images")
    run, *words = place.words("launch=local", *settings)
    assert launch_run.main(Path(run), words) == 0
    _check_run(place, size, stored)


def _check_run(place: Any, size: int, stored: str) -> None:
    run = place.path / "run"
    data = RunDir(run).config().data
    assert (data.num_classes, data.image_size) == (4, size)
    (folder,) = (path for path in (place.path / "cache").iterdir() if path.is_dir())
    assert folder.name.split("-")[2] == stored
    assert json.loads((folder / "ffcv.json").read_text())["sizes"] == {"train": 144, "val": 16, "test": 40}
    rows = [row for row in read_rows(run) if row.split == "test"]
    assert {row.lam for row in rows} == {0.0, 1.0}
    assert {row.num_examples for row in rows} == {8}
