"""Layout: SVHN's MATLAB files, X (32, 32, 3, N) uint8 and y (N, 1) with 10 for the digit 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.checksums import Published
from distcond.data.damage import explained
from distcond.data.dataset import Arrays, Dataset, check_labels
from distcond.data.labels import numbers_of
from distcond.data.layout import Files, Layout
from distcond.data.npy_header import check_size
from distcond.errors import ConfigError


def svhn_mat(train: str, test: str, published: Mapping[str, Published]) -> Layout:
    """The layout: the two named files in the root."""
    return Layout(f"{train} and {test}", partial(_find, train=train, test=test), _read, published)


def _find(root: Path, train: str, test: str) -> Files | None:
    files = {"train": [root / train], "test": [root / test]}
    return files if all(paths[0].is_file() for paths in files.values()) else None


def _read(files: Files, dataset: Dataset) -> dict[str, Arrays]:
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
        whole = numbers_of(labels, f"data.root: {path}: y")
    except ConfigError:
        raise
    except KeyError as error:
        raise ConfigError(f"data.root: {path} has no variable {error}; needed: X and y") from error
    except Exception as error:  # a damaged file raises anything
        why = explained(path, f"{type(error).__name__}: {error}")
        raise ConfigError(f"data.root: {path} is not a whole MATLAB file: {why}") from error
    size = dataset.image_size
    if pixels.dtype != np.uint8 or pixels.shape != (size, size, 3, len(whole)):
        raise ConfigError(
            f"data.root: {path}: X is {pixels.dtype} {pixels.shape}; needed: uint8 {(size, size, 3, len(whole))}"
        )
    whole[whole == 10] = 0
    check_labels(whole, dataset.num_classes, f"data.root: {path}")
    return Arrays(np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), whole)
