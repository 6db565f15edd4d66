"""scikit-learn's handwritten digits (UCI optdigits, test part): 1,797 real images of 8x8 that need no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from distcond.data.checksums import fingerprint
from distcond.data.dataset import Arrays, Augment, Dataset
from distcond.data.splits import apportion_quotas
from distcond.errors import ConfigError
from distcond.seeding import key

SIZES = {"train": 1257, "val": 180, "test": 360}


def _read(root: str) -> dict[str, Arrays]:
    _sklearn_data_folder()
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    grey = np.rint(values.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    images, labels = np.repeat(grey, 3, axis=3), labels.astype(np.int64)
    return {split: Arrays(images[rows], labels[rows]) for split, rows in split_rows(labels).items()}


def split_rows(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of "train", "val", "test": a fixed random draw, stratified by class. Neighbouring rows share a writer."""
    rng = np.random.Generator(np.random.PCG64(key("digits", "split")))
    classes, counts = np.unique(labels, return_counts=True)
    shares = {split: apportion_quotas(counts, SIZES[split]) for split in ("test", "val")}
    rows: dict[str, list[np.ndarray]] = {split: [] for split in SIZES}
    for number, label in enumerate(classes):
        shuffled = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum([shares["test"][number], shares["val"][number]])
        for split, part in zip(("test", "val", "train"), np.split(shuffled, ends), strict=True):
            rows[split].append(part)
    return {split: np.sort(np.concatenate(parts)) for split, parts in rows.items()}


def _fingerprint(root: str) -> str:
    folder = _sklearn_data_folder()
    return fingerprint([folder / "digits.csv.gz"], folder)


def _sklearn_data_folder() -> Path:
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ConfigError("data.name=digits needs scikit-learn: pip install scikit-learn; or choose another data.name")
    return Path(spec.origin).parent / "datasets" / "data"


DATASET = Dataset(
    name="digits",
    summary="1,797 handwritten digits, 8x8, from scikit-learn; needs no download",
    num_classes=10,
    image_size=8,
    mean=(0.3048, 0.3048, 0.3048),
    std=(0.3757, 0.3757, 0.3757),
    augment=Augment(pad=1, flip=False),
    splits=SIZES,
    read=_read,
    fingerprint=_fingerprint,
    classes=lambda root: tuple(map(str, range(10))),
)
