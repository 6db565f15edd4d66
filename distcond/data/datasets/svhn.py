"""SVHN (Netzer et al. 2011), cropped digits without the extra ones: training images 68,258 to 73,257 validate.

Labels are the digits. Training changes nothing at random, as in OAT (Wang et al. 2020): a mirrored digit is another
one or none. Its MATLAB files hold X (32, 32, 3, N) uint8 and y (N, 1) with 10 for the digit 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.checksums import PublishedFile, explain_damage
from distcond.data.dataset import Arrays, Augment, Dataset, Split, check_labels
from distcond.data.labels import parse_class_indices
from distcond.data.readers.layout import Files, Layout, classes_any, fingerprint_any, read_any
from distcond.data.readers.npz import check_size, npz_arrays
from distcond.data.readers.parquet_images import parquet_images
from distcond.data.splits import hold_out_last
from distcond.errors import ConfigError


def svhn_mat(train: str, test: str, published: Mapping[str, PublishedFile]) -> Layout:
    """The layout: the two named files in the root."""
    return Layout(f"{train} and {test}", partial(_find, train=train, test=test), _read_mat, published)


def _find(root: Path, train: str, test: str) -> Files | None:
    files = {"train": [root / train], "test": [root / test]}
    return files if all(paths[0].is_file() for paths in files.values()) else None


def _read_mat(files: Files, dataset: Dataset) -> dict[str, Arrays]:
    return {split: _read_file(paths[0], dataset) for split, paths in files.items()}


def _read_file(path: Path, dataset: Dataset) -> Arrays:
    try:
        from scipy.io import loadmat, whosmat
    except ImportError as error:
        raise ConfigError(f"data.root: {path} needs scipy: pip install scipy; or give a .npz instead") from error
    try:
        for name, shape, _ in whosmat(path):
            if name not in ("X", "y"):
                continue
            image = 3 * dataset.image_size**2 if name == "X" else 8
            check_size(math.prod(shape), image * sum(dataset.splits.values()), f"data.root: {path}: {name}")
        # Only these two: anything else in the file stays unread.
        content = loadmat(path, variable_names=["X", "y"])
        pixels, labels = content["X"], np.asarray(content["y"]).reshape(-1)
        whole = parse_class_indices(labels, f"data.root: {path}: y")
    except ConfigError:
        raise
    except KeyError as error:
        raise ConfigError(f"data.root: {path} has no variable {error}; needed: X and y") from error
    except Exception as error:  # a damaged file raises anything
        why = explain_damage(path, f"{type(error).__name__}: {error}")
        raise ConfigError(f"data.root: {path} is not a whole MATLAB file: {why}") from error
    size = dataset.image_size
    if pixels.dtype != np.uint8 or pixels.shape != (size, size, 3, len(whole)):
        raise ConfigError(
            f"data.root: {path}: X is {pixels.dtype} {pixels.shape}; needed: uint8 {(size, size, 3, len(whole))}"
        )
    whole[whole == 10] = 0
    check_labels(whole, dataset.num_classes, f"data.root: {path}")
    return Arrays(np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), whole)


PUBLISHED = {
    "train_32x32.mat": PublishedFile(182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
    "test_32x32.mat": PublishedFile(64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
}
NAMES = tuple(map(str, range(10)))
LAYOUTS = (
    svhn_mat("train_32x32.mat", "test_32x32.mat", PUBLISHED),
    parquet_images(folders=(".", "cropped_digits", "data")),
    npz_arrays("svhn.npz"),
)


def _read(root: str) -> Mapping[str, Split]:
    return read_any(root, LAYOUTS, DATASET, hold_out_last(Fraction(5_000, 73_257)))


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
