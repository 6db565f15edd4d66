"""Layout: one .npz of plain arrays, for machines with nothing but numpy.

Headers are checked before anything is decompressed: kilobytes can become gigabytes.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distcond.data.checksums import explain_damage
from distcond.data.dataset import Arrays, Dataset, check_labels
from distcond.data.labels import parse_class_indices
from distcond.data.readers.layout import Files, Layout
from distcond.errors import ConfigError


class NpyHeader(NamedTuple):
    """Shape and type of the array in an .npy file."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(archive: zipfile.ZipFile, member: str) -> NpyHeader:
    """The header of an array in an .npz.

    Raises:
        KeyError: no such member.
        ValueError: it holds Python objects, or its size differs from what the archive states.
    """
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        begin = file.tell()
    header, stated = NpyHeader(shape, dtype), archive.getinfo(member).file_size
    if dtype.hasobject:
        raise ValueError(f"{member} holds Python objects, which are not read")
    if begin + header.nbytes != stated:
        raise ValueError(f"{member} is {stated} bytes in place of the {begin + header.nbytes} of {dtype} {shape}")
    return header


def check_size(nbytes: int, limit: int, what: str) -> None:
    """Refuse an array of more than `limit` bytes; `what` names it in the message.

    Raises:
        ConfigError: it is larger.
    """
    if nbytes > limit:
        raise ConfigError(
            f"{what} would decompress to {nbytes / 1e9:.3g} GB; at most {limit / 1e9:.3g} GB are expected"
        )


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
        # Opened here: numpy does not close its own file when the archive is damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            x_train, y_train, x_test, y_test = (archive[key] for key in KEYS)
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(
            f"data.root: {path} must hold plain arrays {', '.join(KEYS)}: {explain_damage(path, error)}"
        ) from error
    pairs = {"train": (x_train, y_train), "test": (x_test, y_test)}
    splits = {split: _arrays(x, y, f"data.root: {path}: y_{split}") for split, (x, y) in pairs.items()}
    for split, arrays in splits.items():
        check_labels(arrays.labels, dataset.num_classes, f"data.root: {path}: y_{split}")
    return splits


def _check_sizes(path: Path, dataset: Dataset) -> None:
    """Check the headers. A copy may be smaller than the data set, never larger."""
    image = 3 * dataset.image_size**2
    with zipfile.ZipFile(path) as archive:
        for key in KEYS:
            count = sum(n for split, n in dataset.splits.items() if (split == "test") == key.endswith("test"))
            most = count * (image if key.startswith("x") else np.dtype(np.int64).itemsize)
            check_size(read_npy_header(archive, f"{key}.npy").nbytes, most, f"data.root: {path}: {key}")


def _arrays(x: np.ndarray, y: np.ndarray, what: str) -> Arrays:
    return Arrays(x, parse_class_indices(y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y, what))
