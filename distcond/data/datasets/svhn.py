"""SVHN (Netzer et al. 2011), cropped digits without the extra set.

The last 5,000 training images are the validation split. Labels are the digits. No augmentation, as in OAT (Wang et al.
2020): a mirrored digit is another one or none. The MATLAB files hold X (32, 32, 3, N) uint8 and y (N, 1), with 10 for
the digit 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.checksums import PublishedFile, explain_damage
from distcond.data.dataset import Arrays, Augment, Dataset, check_labels
from distcond.data.labels import parse_class_indices
from distcond.data.readers.layout import Files, Layout, needs_layouts, with_layouts
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
    pixels, labels = _load_variables(path, dataset)
    size = dataset.image_size
    if pixels.dtype != np.uint8 or pixels.shape != (size, size, 3, len(labels)):
        raise ConfigError(
            f"data.root: {path}: X is {pixels.dtype} {pixels.shape}; needed: uint8 {(size, size, 3, len(labels))}"
        )
    labels[labels == 10] = 0
    check_labels(labels, dataset.num_classes, f"data.root: {path}")
    return Arrays(np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), labels)


def _load_variables(path: Path, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """X as it is and y (N,) int64. Sizes are checked before anything is decompressed."""
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
        # Only these two: other variables stay unread.
        content = loadmat(path, variable_names=["X", "y"])
        labels = np.asarray(content["y"]).reshape(-1)
        return content["X"], parse_class_indices(labels, f"data.root: {path}: y")
    except ConfigError:
        raise
    except KeyError as error:
        raise ConfigError(f"data.root: {path} has no variable {error}; needed: X and y") from error
    except Exception as error:  # a damaged file raises anything
        why = explain_damage(path, f"{type(error).__name__}: {error}")
        raise ConfigError(f"data.root: {path} is not a complete MATLAB file: {why}") from error


PUBLISHED = {
    "train_32x32.mat": PublishedFile(182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
    "test_32x32.mat": PublishedFile(64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
}

DATASET = with_layouts(
    Dataset(
        name="svhn",
        summary="99,289 photographs of house-number digits, 32x32; needs data.root",
        num_classes=10,
        image_size=32,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        augment=Augment(),
        splits={"train": 68_257, "val": 5_000, "test": 26_032},
        read=needs_layouts,
        fingerprint=needs_layouts,
    ),
    (
        svhn_mat("train_32x32.mat", "test_32x32.mat", PUBLISHED),
        parquet_images(folders=(".", "cropped_digits", "data")),
        npz_arrays("svhn.npz"),
    ),
    hold_out_last(Fraction(5_000, 73_257)),
    class_names=tuple(map(str, range(10))),
)
