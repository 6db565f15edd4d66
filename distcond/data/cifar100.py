"""CIFAR-100 (Krizhevsky 2009) with its 100 fine labels: the last 5,000 training images are the validation split.

Training also turns the images by up to 15 degrees, as the authors of Sparsity Winning Twice (Chen et al. 2022) do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distcond.data.checksums import Published
from distcond.data.cifar_pickles import cifar_pickles
from distcond.data.dataset import Augment, Dataset, Split
from distcond.data.folder_images import folder_images
from distcond.data.layout import classes_any, fingerprint_any, notes_any, read_any
from distcond.data.npz_arrays import npz_arrays
from distcond.data.parquet_images import parquet_images

PUBLISHED = {
    "train": Published(155_249_918, "16019d7e3df5f24257cddd939b257f8d"),
    "test": Published(31_049_918, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
}
LAYOUTS = (
    parquet_images("fine_label", folders=(".", "cifar100", "data")),
    cifar_pickles("cifar-100-python", ["train"], ["test"], b"fine_labels", PUBLISHED),
    npz_arrays("cifar100.npz"),
    folder_images(),
)


def _read(root: str) -> Mapping[str, Split]:
    return read_any(root, LAYOUTS, DATASET)


def _classes(root: str) -> Sequence[str]:
    return classes_any(root, LAYOUTS, DATASET.name)


def _notes(root: str) -> Sequence[str]:
    return notes_any(root, LAYOUTS, DATASET.name)


def _fingerprint(root: str) -> str:
    return fingerprint_any(root, LAYOUTS, DATASET.name)


DATASET = Dataset(
    name="cifar100",
    summary="60,000 photographs of 100 kinds of things, 32x32; needs data.root",
    num_classes=100,
    image_size=32,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    augment=Augment(pad=4, flip=True, rotate=15),
    splits={"train": 45_000, "val": 5_000, "test": 10_000},
    read=_read,
    fingerprint=_fingerprint,
    classes=_classes,
    notes=_notes,
)
