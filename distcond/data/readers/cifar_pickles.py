"""Layout: CIFAR's python batches (torchvision's download), read without trusting the pickles.

Unpickling runs any code that a file names. These files need byte arrays only, so every other name is refused, and the
arrays are rebuilt here: numpy's own reconstruction accepts any buffer and any type.
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

#: Types that labels and pixels may have.
_INTEGER_TYPES = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))


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
    for parent in (root / folder, root):
        files = {"train": [parent / name for name in train], "test": [parent / name for name in test]}
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
            batch = _ArrayUnpickler(file, encoding="bytes").load()
        pixels, labels = batch[b"data"], parse_class_indices(_as_array(batch[label]), f"data.root: {path}")
        if not isinstance(pixels, _Array) or pixels.values.dtype != np.uint8:
            raise ValueError("data is not an array of uint8")
        planes = pixels.values.reshape(len(labels), 3, dataset.image_size, dataset.image_size)
    except ConfigError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        why = explain_damage(path, f"{type(error).__name__}: {error}")
        raise ConfigError(f"data.root: {path} is not a batch of CIFAR: {why}") from error
    check_labels(labels, dataset.num_classes, f"data.root: {path}")
    return Arrays(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)


class _Callable:
    """A callable for pickles, without any attribute that a pickle could change."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError("sets an attribute of a function")

    def __setstate__(self, state: object) -> None:
        raise ValueError("sets the state of a function")


class _Dtype:
    """A pickled dtype; integer types only. Of its state only the byte order is used."""

    def __init__(self, name: object, *rest: object) -> None:
        text = name.decode("ascii") if isinstance(name, bytes) else name
        if not isinstance(text, str) or text.lstrip("<>=|") not in _INTEGER_TYPES:
            raise ValueError(f"dtype {name!r}; needed: an integer type")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in (*"<>|=", *(b"<", b">", b"|", b"=")):
            raise ValueError("state of a dtype")
        order: Any = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """A pickled array of integers, whose state brings a copy of the bytes."""

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


class _ArrayUnpickler(pickle._Unpickler):
    """Rebuilds integer arrays, dicts, lists, strings and numbers; refuses every other name.

    Based on the Python implementation: the C one allocates a memo as large as the file says.
    """

    def __init__(self, file: Any, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._file_name = file.name

    def find_class(self, module: str, name: str) -> Any:
        """The object that a pickle refers to by name."""
        # numpy moved this function.
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _Callable(_Array)
        if (module, name) == ("numpy", "ndarray"):
            return None  # an unused argument of _reconstruct
        if (module, name) == ("numpy", "dtype"):
            return _Callable(_Dtype)
        if (module, name) == ("_codecs", "encode"):
            return _Callable(_encode_latin1)
        raise ConfigError(f"data.root: {self._file_name} asks for {module}.{name}, which CIFAR's files never do")


def _encode_latin1(text: str, encoding: str) -> bytes:
    # Python 3 pickles bytes for Python 2 this way. Any other codec could import modules.
    if encoding != "latin1":
        raise ValueError(f"codec {encoding!r}")
    return text.encode("latin1")


def _as_array(value: object) -> np.ndarray:
    return value.values if isinstance(value, _Array) else np.asarray(value)
