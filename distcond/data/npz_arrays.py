"""Layout: one .npz of plain arrays, for machines that have numpy and nothing else."""

from __future__ import annotations

import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.damage import explained
from distcond.data.dataset import Arrays, Dataset, check_labels
from distcond.data.labels import numbers_of
from distcond.data.layout import Files, Layout
from distcond.data.npy_header import check_size, header_of
from distcond.errors import ConfigError

KEYS = ("x_train", "y_train", "x_test", "y_test")


def npz_arrays(file_name: str) -> Layout:
    """The layout: `x_*` (N, S, S, 3) uint8, `y_*` (N,) or (N, 1) integers."""
    return Layout(f"{file_name} ({', '.join(KEYS)})", partial(_find, file_name=file_name), _read)


def _find(root: Path, file_name: str) -> Files | None:
    path = root / file_name
    return {"all": (path,)} if path.is_file() else None


def _read(files: Files, dataset: Dataset) -> dict[str, Arrays]:
    (path,) = files["all"]
    try:
        _check_sizes(path, dataset)
        # numpy leaves a file that it opened itself open when the archive is damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            x_train, y_train, x_test, y_test = (archive[key] for key in KEYS)
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(
            f"data.root: {path} must hold plain arrays {', '.join(KEYS)}: {explained(path, error)}"
        ) from error
    pairs = {"train": (x_train, y_train), "test": (x_test, y_test)}
    splits = {split: _arrays(x, y, f"data.root: {path}: y_{split}") for split, (x, y) in pairs.items()}
    for split, arrays in splits.items():
        check_labels(arrays.labels, dataset.num_classes, f"data.root: {path}: y_{split}")
    return splits


def _check_sizes(path: Path, dataset: Dataset) -> None:
    """By the headers alone. A copy may be smaller than the data set, never larger."""
    image = 3 * dataset.image_size**2
    with zipfile.ZipFile(path) as archive:
        for key in KEYS:
            count = sum(n for split, n in dataset.splits.items() if (split == "test") == key.endswith("test"))
            most = count * (image if key.startswith("x") else np.dtype(np.int64).itemsize)
            check_size(header_of(archive, f"{key}.npy").nbytes, most, f"data.root: {path}: {key}")


def _arrays(x: np.ndarray, y: np.ndarray, what: str) -> Arrays:
    return Arrays(x, numbers_of(y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y, what))
