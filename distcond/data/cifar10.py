"""CIFAR-10 (Krizhevsky 2009): the last 5,000 of the 50,000 training images are the validation split."""

from __future__ import annotations

from distcond.data.cifar_pickles import cifar_pickles
from distcond.data.dataset import Arrays, Augment, Dataset
from distcond.data.image_folder import image_folder
from distcond.data.layout import fingerprint_any, read_any
from distcond.data.npz_arrays import npz_arrays
from distcond.data.parquet_images import parquet_images

LAYOUTS = (
    parquet_images(),
    cifar_pickles("cifar-10-batches-py", [f"data_batch_{number}" for number in range(1, 6)], ["test_batch"]),
    npz_arrays("cifar10.npz"),
    image_folder(),
)


def _read(root: str) -> dict[str, Arrays]:
    return read_any(root, LAYOUTS, DATASET.name, DATASET.image_size)


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
)
