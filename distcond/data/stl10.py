"""STL-10 (Coates et al. 2011), its labelled images: 500 of the 5,000 for training, 50 of each class, validate.

The 100,000 unlabelled images are not used. OAT (Wang et al. 2020), whose shift by 4 pixels this is, chose its networks
on the test images; here they are chosen on the 500.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from distcond.data.checksums import Published
from distcond.data.dataset import Augment, Dataset, Split
from distcond.data.hold_out import stratified
from distcond.data.layout import classes_any, fingerprint_any, read_any
from distcond.data.npz_arrays import npz_arrays
from distcond.data.parquet_images import parquet_images
from distcond.data.stl10_binary import stl10_binary

PUBLISHED = {
    "train_X.bin": Published(138_240_000, "918c2871b30a85fa023e0c44e0bee87f"),
    "train_y.bin": Published(5_000, "5a34089d4802c674881badbb80307741"),
    "test_X.bin": Published(221_184_000, "7f263ba9f9e0b06b93213547f721ac82"),
    "test_y.bin": Published(8_000, "36f9794fa4beb8a2c72628de14fa638e"),
}
NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
LAYOUTS = (stl10_binary("stl10_binary", PUBLISHED), parquet_images(), npz_arrays("stl10.npz"))


def _read(root: str) -> Mapping[str, Split]:
    return read_any(root, LAYOUTS, DATASET, stratified("stl10", Fraction(1, 10)))


def _classes(root: str) -> Sequence[str]:
    return classes_any(root, LAYOUTS, DATASET.name) or NAMES


def _fingerprint(root: str) -> str:
    return fingerprint_any(root, LAYOUTS, DATASET.name)


DATASET = Dataset(
    name="stl10",
    summary="13,000 photographs of 10 kinds of animals and vehicles, 96x96; needs data.root",
    num_classes=10,
    image_size=96,
    mean=(0.4467, 0.4398, 0.4066),
    std=(0.2603, 0.2566, 0.2713),
    augment=Augment(pad=4, flip=True),
    splits={"train": 4_500, "val": 500, "test": 8_000},
    read=_read,
    fingerprint=_fingerprint,
    classes=_classes,
)
