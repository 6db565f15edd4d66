"""More training images than the data set has, to be mixed into every batch (`distcond.data.mixed`).

Generated images help adversarial training (Gowal et al. 2021; Wang et al. 2023). They are published as .npz files of
uint8 images (N, S, S, 3) and integer labels (N,), called `image` and `label`.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distcond.aside import locked, written_aside
from distcond.data.dataset import Arrays, Dataset, check_arrays
from distcond.data.fingerprint import fingerprint
from distcond.errors import ConfigError

#: What the arrays may be called.
NAMES = {"images": ("image", "images", "x"), "labels": ("label", "labels", "y")}


class Extra(NamedTuple):
    """Extra images ready to be opened: mapped, not read, however many there are."""

    fingerprint: str
    folder: Path

    def arrays(self) -> Arrays:
        """Images and labels; the ranks of one machine share the pages."""
        images, labels = (np.load(self.folder / f"{name}.npy", mmap_mode="c") for name in NAMES)
        return Arrays(images, labels.reshape(-1).astype(np.int64))


def prepare_extra(path: str, cache_dir: str, dataset: Dataset) -> Extra:
    """Unpack the two arrays of an .npz below `cache_dir`, unless that has been done.

    Raises:
        ConfigError: no such file, no such arrays in it, or images and labels that do not go with `dataset`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"data.extra={path}: no such file; needed: an .npz with the arrays image and label")
    name = fingerprint([file], file.parent)
    extra = Extra(name, Path(cache_dir).expanduser() / f"extra-{name}-v1")
    with locked(extra.folder.with_name(f".{extra.folder.name}.lock")):
        for wanted, names in NAMES.items():
            if not (extra.folder / f"{wanted}.npy").exists():
                _unpack(file, names, extra.folder / f"{wanted}.npy")
    try:
        _check(extra.arrays(), path, dataset)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"data.extra={path} must hold plain arrays: {error}") from error
    return extra


def _unpack(file: Path, names: Sequence[str], to: Path) -> None:
    # A member of an .npz is an .npy file: copied in pieces, so that it need not fit into memory.
    try:
        with zipfile.ZipFile(file) as archive:
            found = [f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()]
            if not found:
                held = ", ".join(name.removesuffix(".npy") for name in archive.namelist())
                raise ConfigError(f"data.extra={file} holds {held}; needed: {' or '.join(names)}")
            with archive.open(found[0]) as member, written_aside(to) as aside, open(aside, "wb") as out:
                shutil.copyfileobj(member, out, 1 << 22)
    except (zipfile.BadZipFile, OSError) as error:
        raise ConfigError(f"data.extra={file} is not a whole .npz: {error}") from error


def _check(arrays: Arrays, path: str, dataset: Dataset) -> None:
    what = f"data.extra={path}"
    check_arrays(arrays, what)
    if arrays.images.shape[1:3] != (dataset.image_size, dataset.image_size):
        raise ConfigError(f"{what}: images are {arrays.images.shape[1:3]}; {dataset.name} has {dataset.image_size}")
    if arrays.labels.min() < 0 or arrays.labels.max() >= dataset.num_classes:
        least, most = arrays.labels.min(), arrays.labels.max()
        raise ConfigError(f"{what}: labels run from {least} to {most}; needed: 0 to {dataset.num_classes - 1}")
