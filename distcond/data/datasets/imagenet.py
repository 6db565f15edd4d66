"""ImageNet-1k (ILSVRC 2012). The official validation images are the test split, as is usual.

10 training images of every class, drawn once, are the validation split. Images are stored as JPEG with a side of 256
pixels. Class folders are numbered by WordNet id.
"""

from __future__ import annotations

from fractions import Fraction

from distcond.data.dataset import Augment, Dataset
from distcond.data.readers.class_folders import class_folders
from distcond.data.readers.encoded_parquet import encoded_parquet
from distcond.data.readers.layout import needs_layouts, with_layouts
from distcond.data.splits import hold_out_stratified

DATASET = with_layouts(
    Dataset(
        name="imagenet",
        summary="1.3 million photographs of 1,000 kinds of things, 224x224; needs data.root",
        num_classes=1000,
        image_size=224,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augment=Augment(pad=4, flip=True),
        splits={"train": 1_271_167, "val": 10_000, "test": 50_000},
        read=needs_layouts,
        fingerprint=needs_layouts,
        any_size=True,
    ),
    (encoded_parquet({"train": "train", "test": "validation"}), class_folders({"train": "train", "test": "val"})),
    hold_out_stratified("imagenet", Fraction(10_000, 1_281_167)),
)
