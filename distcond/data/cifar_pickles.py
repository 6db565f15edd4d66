"""Layout: CIFAR's own python batches (torchvision's download), read without trusting the pickles.

Unpickling a file runs whatever it asks for. These files need four things to rebuild a numpy array and nothing else,
so everything else is refused by name.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from distcond.data.checksums import Published
from distcond.data.damage import explained
from distcond.data.dataset import Arrays, Dataset, check_labels
from distcond.data.labels import numbers_of
from distcond.data.layout import Files, Layout
from distcond.errors import ConfigError


def cifar_pickles(
    folder: str,
    train: Sequence[str],
    test: Sequence[str],
    label: bytes = b"labels",
    published: Mapping[str, Published] = MappingProxyType({}),
) -> Layout:
    """The layout: the named files, in `root/folder` or in the root itself."""
    return Layout(
        accepts=f"{folder}/ ({', '.join([*train, *test])})",
        find=partial(_find, folder=folder, train=train, test=test),
        read=partial(_read, label=label),
        published=published,
    )


def _find(root: Path, folder: str, train: Sequence[str], test: Sequence[str]) -> Files | None:
    for place in (root / folder, root):
        files = {"train": [place / name for name in train], "test": [place / name for name in test]}
        if all(path.is_file() for paths in files.values() for path in paths):
            return files
    return None


def _read(files: Files, dataset: Dataset, label: bytes) -> dict[str, Arrays]:
    return {split: _read_split(paths, dataset, label) for split, paths in files.items()}


def _read_split(paths: Sequence[Path], dataset: Dataset, label: bytes) -> Arrays:
    batches = [_read_batch(path, dataset, label) for path in paths]
    return Arrays(*(np.concatenate(part) for part in zip(*batches, strict=True)))


def _read_batch(path: Path, dataset: Dataset, label: bytes) -> Arrays:
    try:
        with open(path, "rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        pixels, labels = batch[b"data"], numbers_of(np.asarray(batch[label]), f"data.root: {path}")
        planes = pixels.reshape(len(labels), 3, dataset.image_size, dataset.image_size)
    except ConfigError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise ConfigError(f"data.root: {path} is not a batch of CIFAR: {_why(path, error)}") from error
    check_labels(labels, dataset.num_classes, f"data.root: {path}")
    return Arrays(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)


def _why(path: Path, error: Exception) -> str:
    return explained(path, f"{type(error).__name__}: {error}")


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds numpy arrays, dicts, lists, strings and numbers; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle's name stands for."""
        allowed = {
            # Old and new home of one function.
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _latin1,
        }
        if (module, name) not in allowed:
            raise ConfigError(f"data.root: {self._file_name} asks for {module}.{name}, which CIFAR's files never do")
        return allowed[module, name]

    def __init__(self, file: Any, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._file_name = file.name


def _latin1(text: str, encoding: str) -> bytes:
    # How Python 3 writes bytes for Python 2. Any other codec would be a way to import modules.
    if encoding != "latin1":
        raise ValueError(f"codec {encoding!r}")
    return text.encode("latin1")
