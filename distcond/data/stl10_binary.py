"""Layout: STL-10's binary files. A byte per value: images of 3 colour planes, each column by column; labels 1 to 10."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.checksums import Published
from distcond.data.dataset import Arrays, Dataset, check_labels
from distcond.data.layout import Files, Layout
from distcond.errors import ConfigError

NAMES = {split: (f"{split}_X.bin", f"{split}_y.bin") for split in ("train", "test")}


def stl10_binary(folder: str, published: Mapping[str, Published]) -> Layout:
    """The layout: the four files, in `root/folder` or in the root itself."""
    accepts = f"{folder}/ ({', '.join(name for names in NAMES.values() for name in names)})"
    return Layout(accepts, partial(_find, folder=folder), _read, published)


def _find(root: Path, folder: str) -> Files | None:
    for place in (root / folder, root):
        files = {split: [place / name for name in names] for split, names in NAMES.items()}
        if all(path.is_file() for paths in files.values() for path in paths):
            return files
    return None


def _read(files: Files, dataset: Dataset) -> dict[str, Arrays]:
    return {split: _read_split(images, labels, dataset) for split, (images, labels) in files.items()}


def _read_split(images: Path, labels: Path, dataset: Dataset) -> Arrays:
    values = np.fromfile(labels, dtype=np.uint8).astype(np.int64) - 1
    check_labels(values, dataset.num_classes, f"data.root: {labels} (which counts from 1)")
    shape = (len(values), 3, dataset.image_size, dataset.image_size)
    if images.stat().st_size != np.prod(shape):
        raise ConfigError(
            f"data.root: {images} has {images.stat().st_size} bytes; {len(values)} labels need {np.prod(shape)}"
        )
    # As the file has them: image, plane, column, row.
    planes = np.fromfile(images, dtype=np.uint8).reshape(shape)
    return Arrays(np.ascontiguousarray(planes.transpose(0, 3, 2, 1)), values)
