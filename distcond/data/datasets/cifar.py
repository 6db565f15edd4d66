"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009). The last 5,000 of the 50,000 training images are the validation split.

CIFAR-100 uses its 100 fine labels. Its training also rotates images by up to 15 degrees, as Sparsity Winning Twice
(Chen et al. 2022) does.
"""

from __future__ import annotations

from distcond.data.checksums import PublishedFile
from distcond.data.dataset import Augment, Dataset
from distcond.data.readers.cifar_pickles import cifar_pickles
from distcond.data.readers.class_folders import folder_images
from distcond.data.readers.layout import needs_layouts, with_layouts
from distcond.data.readers.npz import npz_arrays
from distcond.data.readers.parquet_images import parquet_images

CIFAR10_PUBLISHED = {
    "data_batch_1": PublishedFile(31_035_704, "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": PublishedFile(31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": PublishedFile(31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": PublishedFile(31_035_696, "634d18415352ddfa80567beed471001a"),
    "data_batch_5": PublishedFile(31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": PublishedFile(31_035_526, "40351d587109b95175f43aff81a1287e"),
}
CIFAR100_PUBLISHED = {
    "train": PublishedFile(155_249_918, "16019d7e3df5f24257cddd939b257f8d"),
    "test": PublishedFile(31_049_918, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
}
TRAIN, TEST = [name for name in CIFAR10_PUBLISHED if name != "test_batch"], ["test_batch"]
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

CIFAR10_DATASET = with_layouts(
    Dataset(
        name="cifar10",
        summary="60,000 photographs of 10 kinds of animals and vehicles, 32x32; needs data.root",
        num_classes=10,
        image_size=32,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        augment=Augment(pad=4, flip=True),
        splits={"train": 45_000, "val": 5_000, "test": 10_000},
        read=needs_layouts,
        fingerprint=needs_layouts,
    ),
    (
        parquet_images(),
        cifar_pickles("cifar-10-batches-py", TRAIN, TEST, published=CIFAR10_PUBLISHED),
        npz_arrays("cifar10.npz"),
        folder_images(),
    ),
    class_names=CIFAR10_CLASSES,
)

CIFAR100_DATASET = with_layouts(
    Dataset(
        name="cifar100",
        summary="60,000 photographs of 100 kinds of things, 32x32; needs data.root",
        num_classes=100,
        image_size=32,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        augment=Augment(pad=4, flip=True, rotate=15),
        splits={"train": 45_000, "val": 5_000, "test": 10_000},
        read=needs_layouts,
        fingerprint=needs_layouts,
    ),
    (
        parquet_images("fine_label", folders=(".", "cifar100", "data")),
        cifar_pickles("cifar-100-python", ["train"], ["test"], b"fine_labels", CIFAR100_PUBLISHED),
        npz_arrays("cifar100.npz"),
        folder_images(),
    ),
)
