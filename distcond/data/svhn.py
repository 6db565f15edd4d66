"""SVHN (Netzer et al. 2011), cropped digits without the extra ones: training images 68,258 to 73,257 validate.

Labels are the digits. Training changes nothing at random, as in OAT (Wang et al. 2020): a mirrored digit is another
one or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from distcond.data.checksums import Published
from distcond.data.dataset import Augment, Dataset, Split
from distcond.data.hold_out import last
from distcond.data.layout import classes_any, fingerprint_any, read_any
from distcond.data.npz_arrays import npz_arrays
from distcond.data.parquet_images import parquet_images
from distcond.data.svhn_mat import svhn_mat

PUBLISHED = {
    "train_32x32.mat": Published(182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
    "test_32x32.mat": Published(64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
}
NAMES = tuple(map(str, range(10)))
LAYOUTS = (
    svhn_mat("train_32x32.mat", "test_32x32.mat", PUBLISHED),
    parquet_images(folders=(".", "cropped_digits", "data")),
    npz_arrays("svhn.npz"),
)


def _read(root: str) -> Mapping[str, Split]:
    return read_any(root, LAYOUTS, DATASET, last(Fraction(5_000, 73_257)))


def _classes(root: str) -> Sequence[str]:
    return classes_any(root, LAYOUTS, DATASET.name) or NAMES


def _fingerprint(root: str) -> str:
    return fingerprint_any(root, LAYOUTS, DATASET.name)


DATASET = Dataset(
    name="svhn",
    summary="99,289 photographs of house-number digits, 32x32; needs data.root",
    num_classes=10,
    image_size=32,
    mean=(0.4377, 0.4438, 0.4728),
    std=(0.1980, 0.2010, 0.1970),
    augment=Augment(),
    splits={"train": 68_257, "val": 5_000, "test": 26_032},
    read=_read,
    fingerprint=_fingerprint,
    classes=_classes,
)
