"""STL-10 (Coates et al. 2011), labelled images only. 500 of the 5,000 training images are the validation split.

The 500 are 50 of each class. The 100,000 unlabelled images are not used. Augmentation as in OAT (Wang et al. 2020),
which selects its networks on the test images; here they are selected on the 500. The binary files have one byte per
value: three colour planes per image in column-major order, and labels 1 to 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.checksums import PublishedFile
from distcond.data.dataset import Arrays, Augment, Dataset, check_labels
from distcond.data.readers.layout import Files, Layout, needs_layouts, with_layouts
from distcond.data.readers.npz import npz_arrays
from distcond.data.readers.parquet_images import parquet_images
from distcond.data.splits import hold_out_stratified
from distcond.errors import ConfigError

FILE_NAMES = {split: (f"{split}_X.bin", f"{split}_y.bin") for split in ("train", "test")}


def stl10_binary(folder: str, published: Mapping[str, PublishedFile]) -> Layout:
    """The layout: the four binary files, in `root/folder` or in the root itself."""
    accepts = f"{folder}/ ({', '.join(name for names in FILE_NAMES.values() for name in names)})"
    return Layout(accepts, partial(_find, folder=folder), _read_binary, published)


def _find(root: Path, folder: str) -> Files | None:
    for parent in (root / folder, root):
        files = {split: [parent / name for name in names] for split, names in FILE_NAMES.items()}
        if all(path.is_file() for paths in files.values() for path in paths):
            return files
    return None


def _read_binary(files: Files, dataset: Dataset) -> dict[str, Arrays]:
    return {split: _read_split(images, labels, dataset) for split, (images, labels) in files.items()}


def _read_split(images: Path, labels: Path, dataset: Dataset) -> Arrays:
    values = np.fromfile(labels, dtype=np.uint8).astype(np.int64) - 1
    check_labels(values, dataset.num_classes, f"data.root: {labels} (which counts from 1)")
    shape = (len(values), 3, dataset.image_size, dataset.image_size)
    if images.stat().st_size != np.prod(shape):
        raise ConfigError(
            f"data.root: {images} has {images.stat().st_size} bytes; {len(values)} labels need {np.prod(shape)}"
        )
    # Order in the file: image, plane, column, row.
    planes = np.fromfile(images, dtype=np.uint8).reshape(shape)
    return Arrays(np.ascontiguousarray(planes.transpose(0, 3, 2, 1)), values)


PUBLISHED = {
    "train_X.bin": PublishedFile(138_240_000, "918c2871b30a85fa023e0c44e0bee87f"),
    "train_y.bin": PublishedFile(5_000, "5a34089d4802c674881badbb80307741"),
    "test_X.bin": PublishedFile(221_184_000, "7f263ba9f9e0b06b93213547f721ac82"),
    "test_y.bin": PublishedFile(8_000, "36f9794fa4beb8a2c72628de14fa638e"),
}
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")

DATASET = with_layouts(
    Dataset(
        name="stl10",
        summary="13,000 photographs of 10 kinds of animals and vehicles, 96x96; needs data.root",
        num_classes=10,
        image_size=96,
        mean=(0.4467, 0.4398, 0.4066),
        std=(0.2603, 0.2566, 0.2713),
        augment=Augment(pad=4, flip=True),
        splits={"train": 4_500, "val": 500, "test": 8_000},
        read=needs_layouts,
        fingerprint=needs_layouts,
    ),
    (stl10_binary("stl10_binary", PUBLISHED), parquet_images(), npz_arrays("stl10.npz")),
    hold_out_stratified("stl10", Fraction(1, 10)),
    class_names=CLASSES,
)
