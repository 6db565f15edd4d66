"""Your own images: one folder per class, or parquet files. Any number of classes, any image size.

Splits are `train/`, `test/` and optionally `val/`. With `train/` and `val/` only, `val/` is the test split and a tenth
of every class of `train/` is the validation split. Unless they are set, `data.num_classes` is the number of classes in
`train/`, and `data.image_size` is the size of 64 sampled images if they are squares of one side up to 128 pixels, else
224.
"""

from __future__ import annotations

from fractions import Fraction

from distcond.data.dataset import Augment, Dataset, EncodedImage, EncodedSplit, InferredSizes
from distcond.data.datasets import imagenet
from distcond.data.image_codec import read_size, require_pillow
from distcond.data.readers.class_folders import class_folders
from distcond.data.readers.encoded_parquet import encoded_parquet
from distcond.data.readers.layout import DatasetFiles, needs_layouts, with_layouts
from distcond.data.splits import hold_out_stratified, stratified_order
from distcond.errors import ConfigError

#: Names of the folders (or of the parquet files) of the splits; the first choice that is there is used.
SPLIT_NAMES = (
    {"train": "train", "val": "val", "test": "test"},
    {"train": "train", "test": "test"},
    {"train": "train", "test": "val"},
)
#: Squares up to this side keep their size.
MAX_NATIVE_SIDE = 128
DEFAULT_SIDE = 224
_NUM_SAMPLED = 64


def _infer_sizes(files: DatasetFiles) -> InferredSizes:
    train = files.splits()["train"]
    assert isinstance(train, EncodedSplit)
    if not len(train.labels):
        raise ConfigError(f"data.root={files.root}: there is no training image")
    require_pillow(str(files.root))
    sizes = {read_size(image) for image in _sample_images(train)}
    width, height = max(sizes)
    native = len(sizes) == 1 and width == height <= MAX_NATIVE_SIDE
    return InferredSizes(int(train.labels.max()) + 1, width if native else DEFAULT_SIDE)


def _sample_images(train: EncodedSplit) -> list[EncodedImage]:
    """Images stratified by class; the first ones where the format (parquet) has no random access."""
    if train.image_at is None:
        return list(next(train.chunks())[:_NUM_SAMPLED])
    return [train.image_at(int(row)) for row in stratified_order(train.labels)[:_NUM_SAMPLED]]


DATASET = with_layouts(
    Dataset(
        name="image_folder",
        summary="your own images in train/<class>/ and test/<class>/, or in parquet; needs data.root",
        num_classes=0,
        image_size=0,
        mean=imagenet.DATASET.mean,
        std=imagenet.DATASET.std,
        augment=Augment(pad=4, flip=True),
        splits={"train": 0, "val": 0, "test": 0},
        read=needs_layouts,
        fingerprint=needs_layouts,
        any_size=True,
    ),
    (class_folders(*SPLIT_NAMES), encoded_parquet(*SPLIT_NAMES)),
    hold_out_stratified("image_folder", Fraction(1, 10)),
    infer_sizes=_infer_sizes,
)
