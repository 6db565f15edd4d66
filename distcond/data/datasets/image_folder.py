"""Your own images: a folder for each class, or parquet files; any number of classes, images of any size.

`train/` and `test/` and perhaps `val/` for validation; with `train/` and `val/` alone, `val/` is the test split and a
tenth of every class of `train/` validates. Unless they are set, `data.num_classes` is what `train/` has, and
`data.image_size` what 64 images of all classes measure if they are squares of one side up to 128 pixels, else 224.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from distcond.data.dataset import Augment, Dataset, EncodedImage, EncodedSplit, InferredSizes, Split
from distcond.data.datasets import imagenet
from distcond.data.image_codec import read_size, require_pillow
from distcond.data.readers.class_folders import class_folders
from distcond.data.readers.encoded_parquet import encoded_parquet
from distcond.data.readers.layout import classes_any, detect, fingerprint_any, notes_any, read_any
from distcond.data.splits import hold_out_stratified, stratified_order
from distcond.errors import ConfigError

LAYOUTS = (
    class_folders(
        {"train": "train", "val": "val", "test": "test"},
        {"train": "train", "test": "test"},
        {"train": "train", "test": "val"},
    ),
    encoded_parquet(
        {"train": "train", "val": "val", "test": "test"},
        {"train": "train", "test": "test"},
        {"train": "train", "test": "val"},
    ),
)
#: Squares up to here are taken as they are.
SMALL = 128
LARGE = 224
_LOOKED_AT = 64


def _read(root: str) -> Mapping[str, Split]:
    return read_any(root, LAYOUTS, DATASET, hold_out_stratified("image_folder", Fraction(1, 10)))


def _classes(root: str) -> Sequence[str]:
    return classes_any(root, LAYOUTS, DATASET.name)


def _notes(root: str) -> Sequence[str]:
    return notes_any(root, LAYOUTS, DATASET.name)


def _fingerprint(root: str) -> str:
    return fingerprint_any(root, LAYOUTS, DATASET.name)


def _found(root: str) -> InferredSizes:
    layout, files = detect(root, LAYOUTS, DATASET.name)
    train = layout.read(files, DATASET)["train"]
    assert isinstance(train, EncodedSplit)
    if not len(train.labels):
        raise ConfigError(f"data.root={root}: there is no training image")
    require_pillow(root)
    sizes = {read_size(image) for image in _some(train)}
    width, height = max(sizes)
    small = len(sizes) == 1 and width == height <= SMALL
    return InferredSizes(int(train.labels.max()) + 1, width if small else LARGE)


def _some(train: EncodedSplit) -> list[EncodedImage]:
    """Images of every class, as far as so few can be; of parquet, which has no order by class, the first."""
    if train.one is None:
        return list(next(train.chunks())[:_LOOKED_AT])
    return [train.one(int(row)) for row in stratified_order(train.labels)[:_LOOKED_AT]]


DATASET = Dataset(
    name="image_folder",
    summary="your own images in train/<class>/ and test/<class>/, or in parquet; needs data.root",
    num_classes=0,
    image_size=0,
    mean=imagenet.DATASET.mean,
    std=imagenet.DATASET.std,
    augment=Augment(pad=4, flip=True),
    splits={"train": 0, "val": 0, "test": 0},
    read=_read,
    fingerprint=_fingerprint,
    classes=_classes,
    notes=_notes,
    any_size=True,
    found=_found,
)
