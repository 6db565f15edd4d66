"""CIFAR-10 (Krizhevsky 2009): the last 5,000 of the 50,000 training images are the validation split."""

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
    "data_batch_1": Published(31_035_704, "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": Published(31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": Published(31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": Published(31_035_696, "634d18415352ddfa80567beed471001a"),
    "data_batch_5": Published(31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": Published(31_035_526, "40351d587109b95175f43aff81a1287e"),
}
TRAIN, TEST = [name for name in PUBLISHED if name != "test_batch"], ["test_batch"]
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LAYOUTS = (
    parquet_images(),
    cifar_pickles("cifar-10-batches-py", TRAIN, TEST, published=PUBLISHED),
    npz_arrays("cifar10.npz"),
    folder_images(),
)


def _read(root: str) -> Mapping[str, Split]:
    return read_any(root, LAYOUTS, DATASET)


def _classes(root: str) -> Sequence[str]:
    return classes_any(root, LAYOUTS, DATASET.name) or NAMES


def _notes(root: str) -> Sequence[str]:
    return notes_any(root, LAYOUTS, DATASET.name)


def _fingerprint(root: str) -> str:
    return fingerprint_any(root, LAYOUTS, DATASET.name)


DATASET = Dataset(
    name="cifar10",
    summary="60,000 photographs of 10 kinds of animals and vehicles, 32x32; needs data.root",
    num_classes=10,
    image_size=32,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    augment=Augment(pad=4, flip=True),
    splits={"train": 45_000, "val": 5_000, "test": 10_000},
    read=_read,
    fingerprint=_fingerprint,
    classes=_classes,
    notes=_notes,
)
