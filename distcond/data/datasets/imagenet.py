"""ImageNet-1k (ILSVRC 2012): the official validation images are the test split, as is usual.

10 training images of every class, drawn once, are the validation split. Images are stored as JPEG with a side of 256
pixels. The classes of a folder are numbered by their WordNet ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from distcond.data.dataset import Augment, Dataset, Split
from distcond.data.readers.class_folders import class_folders
from distcond.data.readers.encoded_parquet import encoded_parquet
from distcond.data.readers.layout import classes_any, fingerprint_any, notes_any, read_any
from distcond.data.splits import hold_out_stratified

LAYOUTS = (
    encoded_parquet({"train": "train", "test": "validation"}),
    class_folders({"train": "train", "test": "val"}),
)


def _read(root: str) -> Mapping[str, Split]:
    return read_any(root, LAYOUTS, DATASET, hold_out_stratified("imagenet", Fraction(10_000, 1_281_167)))


def _classes(root: str) -> Sequence[str]:
    return classes_any(root, LAYOUTS, DATASET.name)


def _notes(root: str) -> Sequence[str]:
    return notes_any(root, LAYOUTS, DATASET.name)


def _fingerprint(root: str) -> str:
    return fingerprint_any(root, LAYOUTS, DATASET.name)


DATASET = Dataset(
    name="imagenet",
    summary="1.3 million photographs of 1,000 kinds of things, 224x224; needs data.root",
    num_classes=1000,
    image_size=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    augment=Augment(pad=4, flip=True),
    splits={"train": 1_271_167, "val": 10_000, "test": 50_000},
    read=_read,
    fingerprint=_fingerprint,
    classes=_classes,
    notes=_notes,
    any_size=True,
)
