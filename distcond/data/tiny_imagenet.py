"""Tiny ImageNet (Stanford CS231n 2015): the official validation images are the test split, whose labels are secret.

50 of the 500 training images of every class, drawn once, are the validation split: 90,000 and 10,000 images, as in
Sparsity Winning Twice (Chen et al. 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from distcond.data.dataset import Augment, Dataset, Split
from distcond.data.encoded_parquet import encoded_parquet
from distcond.data.hold_out import stratified
from distcond.data.layout import classes_any, fingerprint_any, notes_any, read_any
from distcond.data.tiny_imagenet_files import tiny_imagenet_files

SIDE = 64
LAYOUTS = (
    tiny_imagenet_files("tiny-imagenet-200", SIDE),
    encoded_parquet({"train": "train", "test": "val"}, side=SIDE),
)


def _read(root: str) -> Mapping[str, Split]:
    return read_any(root, LAYOUTS, DATASET, stratified("tiny_imagenet", Fraction(1, 10)))


def _classes(root: str) -> Sequence[str]:
    return classes_any(root, LAYOUTS, DATASET.name)


def _notes(root: str) -> Sequence[str]:
    return notes_any(root, LAYOUTS, DATASET.name)


def _fingerprint(root: str) -> str:
    return fingerprint_any(root, LAYOUTS, DATASET.name)


DATASET = Dataset(
    name="tiny_imagenet",
    summary="110,000 photographs of 200 kinds of things, 64x64; needs data.root",
    num_classes=200,
    image_size=SIDE,
    mean=(0.4802, 0.4481, 0.3975),
    std=(0.2770, 0.2691, 0.2821),
    augment=Augment(pad=4, flip=True),
    splits={"train": 90_000, "val": 10_000, "test": 10_000},
    read=_read,
    fingerprint=_fingerprint,
    classes=_classes,
    notes=_notes,
    any_size=True,
)
