"""Layout: CIFAR's own python batches (torchvision's download), read without trusting the pickles.

Unpickling a file runs whatever it asks for. These files need an array of bytes and nothing else, so everything else is
refused by name, and arrays are rebuilt here: numpy's own would be built over any memory and of any type.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from distcond.data.checksums import PublishedFile, explain_damage
from distcond.data.dataset import Arrays, Dataset, check_labels
from distcond.data.labels import parse_class_indices
from distcond.data.readers.layout import Files, Layout
from distcond.errors import ConfigError

#: What labels and pixels may be stored as.
_WHOLE = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))


def cifar_pickles(
    folder: str,
    train: Sequence[str],
    test: Sequence[str],
    label: bytes = b"labels",
    published: Mapping[str, PublishedFile] = MappingProxyType({}),
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
        pixels, labels = batch[b"data"], parse_class_indices(_plain(batch[label]), f"data.root: {path}")
        if not isinstance(pixels, _Array) or pixels.values.dtype != np.uint8:
            raise ValueError("data is no array of uint8")
        planes = pixels.values.reshape(len(labels), 3, dataset.image_size, dataset.image_size)
    except ConfigError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise ConfigError(f"data.root: {path} is not a batch of CIFAR: {_why(path, error)}") from error
    check_labels(labels, dataset.num_classes, f"data.root: {path}")
    return Arrays(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)


def _why(path: Path, error: Exception) -> str:
    return explain_damage(path, f"{type(error).__name__}: {error}")


class _Maker:
    """A name that a pickle may call and do nothing else with: it has no attribute that a pickle could change."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError("sets an attribute of a function")

    def __setstate__(self, state: object) -> None:
        raise ValueError("gives a function a state")


class _Dtype:
    """What a pickle says about a dtype: whole numbers only. Its state (byte order, alignment) is not used."""

    def __init__(self, name: object, *rest: object) -> None:
        text = name.decode("ascii") if isinstance(name, bytes) else name
        if not isinstance(text, str) or text.lstrip("<>=|") not in _WHOLE:
            raise ValueError(f"dtype {name!r}; needed: whole numbers")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in (*"<>|=", *(b"<", b">", b"|", b"=")):
            raise ValueError("state of a dtype")
        order: Any = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array of whole numbers, filled by its state with a copy of the bytes of the file.

    numpy's own ndarray would take any dtype, objects included, over any buffer.
    """

    def __init__(self, *args: object) -> None:
        self.values: np.ndarray = np.empty(0, dtype=np.uint8)

    def __setstate__(self, state: object) -> None:
        _, shape, dtype, by_column, content = cast(tuple[Any, ...], state)
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes) or type(shape) is not tuple:
            raise ValueError("state of an array")
        if not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError(f"an array of shape {shape}")
        if math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise ValueError(f"an array of shape {shape} from {len(content)} bytes")
        self.values = np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if by_column else "C")


class _ArraysOnly(pickle._Unpickler):
    """Rebuilds arrays of whole numbers, dicts, lists, strings and numbers; refuses every other name.

    The one written in Python: that in C keeps what it has seen in a list, as long as a file says it to be.
    """

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle's name stands for."""
        # Old and new home of one function.
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _Maker(_Array)
        if (module, name) == ("numpy", "ndarray"):
            return None  # an argument of the above, which is not looked at
        if (module, name) == ("numpy", "dtype"):
            return _Maker(_Dtype)
        if (module, name) == ("_codecs", "encode"):
            return _Maker(_latin1)
        raise ConfigError(f"data.root: {self._file_name} asks for {module}.{name}, which CIFAR's files never do")

    def __init__(self, file: Any, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._file_name = file.name


def _latin1(text: str, encoding: str) -> bytes:
    # How Python 3 writes bytes for Python 2. Any other codec would be a way to import modules.
    if encoding != "latin1":
        raise ValueError(f"codec {encoding!r}")
    return text.encode("latin1")


def _plain(value: object) -> np.ndarray:
    return value.values if isinstance(value, _Array) else np.asarray(value)
