"""More training images than the data set has, to be mixed into every batch (`distcond.data.sources`).

Generated images help adversarial training (Gowal et al. 2021; Wang et al. 2023). They are published as .npz files of
uint8 images (N, S, S, 3) and integer labels (N,), called `image` and `label`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distcond.atomic_io import atomic_write, file_lock
from distcond.data.checksums import content_digest
from distcond.data.dataset import Arrays, Dataset, check_arrays, check_labels
from distcond.data.readers.npz import read_npy_header
from distcond.errors import ConfigError

#: Beside the unpacked arrays, what they hold.
CONTENT = "content.json"
#: What the arrays may be called.
NAMES = {"images": ("image", "images", "x"), "labels": ("label", "labels", "y")}
#: What a damaged archive makes zipfile and numpy raise.
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError)


class ExtraImages(NamedTuple):
    """Extra images ready to be opened: mapped, not read, however many there are."""

    fingerprint: str
    folder: Path

    def arrays(self) -> Arrays:
        """Images and labels as they are; the ranks of one machine share the pages."""
        images, labels = (np.load(self.folder / f"{name}.npy", mmap_mode="c") for name in NAMES)
        labels = labels.reshape(-1)
        return Arrays(images, labels.astype(np.int64) if labels.dtype.kind in "iu" else labels)


def prepare_extra(path: str, cache_dir: str, dataset: Dataset) -> ExtraImages:
    """Unpack the two arrays of an .npz below `cache_dir`, unless that has been done.

    Raises:
        ConfigError: no such file, no such arrays in it, or images and labels that do not go with `dataset`.
    """
    what, file = f"data.extra={path}", Path(path).expanduser()
    if dataset.augment.crop:
        raise ConfigError(f"{what}: {dataset.name} is trained on random crops of larger images; it takes none")
    if not file.is_file():
        raise ConfigError(f"{what}: no such file; needed: an .npz with the arrays image and label")
    try:
        with zipfile.ZipFile(file) as archive:
            extra = _unpacked(archive, Path(cache_dir).expanduser(), what)
        _check(extra.arrays(), what, dataset)
    except ConfigError:
        raise
    except _DAMAGED as error:
        raise ConfigError(f"{what} is not a whole .npz of plain arrays: {error}") from error
    return extra


def check_share(batch_size: int, share: float) -> None:
    """Every batch has extra images and others.

    Raises:
        ConfigError: rounding leaves it without the ones or the others.
    """
    count = round(batch_size * share)
    if not 1 <= count < batch_size:
        raise ConfigError(f"data.extra_share={share:g}: {count} of batch_size={batch_size}; needed: some of each kind")


def _unpacked(archive: zipfile.ZipFile, cache_dir: Path, what: str) -> ExtraImages:
    name = _content(archive)
    extra = ExtraImages(name, cache_dir / f"extra-{name}-v1")
    with file_lock(extra.folder.with_name(f".{extra.folder.name}.lock")):
        if not _whole(extra.folder):
            for wanted, names in NAMES.items():
                _unpack(archive, names, extra.folder / f"{wanted}.npy", what)
            with atomic_write(extra.folder / CONTENT) as aside:
                aside.write_text(json.dumps(_held(extra.folder)), encoding="utf-8")
    return extra


def _whole(folder: Path) -> bool:
    """Whether the arrays are those that were written there."""
    try:
        return bool(json.loads((folder / CONTENT).read_text(encoding="utf-8")) == _held(folder))
    except (OSError, ValueError):
        return False


def _held(folder: Path) -> dict[str, str]:
    return {name: content_digest(folder / f"{name}.npy") for name in NAMES}


def _content(archive: zipfile.ZipFile) -> str:
    """16 hex digits from the names, sizes and checksums in the archive's index: gigabytes need not be read."""
    members = sorted((info.filename, info.file_size, info.CRC) for info in archive.infolist())
    return hashlib.blake2b(repr(members).encode(), digest_size=8).hexdigest()


def _unpack(archive: zipfile.ZipFile, names: Sequence[str], to: Path, what: str) -> None:
    found = [f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()]
    if not found:
        held = ", ".join(name.removesuffix(".npy") for name in archive.namelist())
        raise ConfigError(f"{what} holds {held}; needed: {' or '.join(names)}")
    _check_room(read_npy_header(archive, found[0]).nbytes, to.parent.parent, what)
    # A member of an .npz is an .npy file: copied in pieces, so that it need not fit into memory.
    with archive.open(found[0]) as member, atomic_write(to) as aside, open(aside, "wb") as out:
        shutil.copyfileobj(member, out, 1 << 22)


def _check_room(nbytes: int, folder: Path, what: str) -> None:
    """By the header alone, before anything is written."""
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise ConfigError(
            f"{what} unfolds to {nbytes / 1e9:.3g} GB and {folder} has {free / 1e9:.3g} GB free; make room, or name "
            "another data.cache_dir"
        )


def _check(arrays: Arrays, what: str, dataset: Dataset) -> None:
    check_arrays(arrays, what)
    if arrays.images.shape[1:3] != (dataset.image_size, dataset.image_size):
        raise ConfigError(f"{what}: images are {arrays.images.shape[1:3]}; {dataset.name} has {dataset.image_size}")
    check_labels(arrays.labels, dataset.num_classes, what)
