"""Extra training images that are mixed into every batch (`distcond.data.sources.MixedSource`).

Generated images help adversarial training (Gowal et al. 2021; Wang et al. 2023). They are published as .npz files with
uint8 images (N, S, S, 3) and integer labels (N,), named `image` and `label`.
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

#: Holds the digests of the unpacked arrays, next to them.
DIGESTS_FILE = "content.json"
#: Accepted names of the arrays.
ARRAY_NAMES = {"images": ("image", "images", "x"), "labels": ("label", "labels", "y")}
#: What zipfile and numpy raise on a damaged archive.
_DAMAGE_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError)


class ExtraImages(NamedTuple):
    """Unpacked extra images, memory-mapped when they are used."""

    fingerprint: str
    folder: Path

    def arrays(self) -> Arrays:
        """Memory-mapped images and labels; the ranks of one machine share the pages."""
        images, labels = (np.load(self.folder / f"{name}.npy", mmap_mode="c") for name in ARRAY_NAMES)
        labels = labels.reshape(-1)
        return Arrays(images, labels.astype(np.int64) if labels.dtype.kind in "iu" else labels)


def prepare_extra(path: str, cache_dir: str, dataset: Dataset) -> ExtraImages:
    """Unpack the two arrays of an .npz below `cache_dir` unless that has been done.

    Raises:
        ConfigError: no such file, missing arrays, or images and labels that do not fit `dataset`.
    """
    what, file = f"data.extra={path}", Path(path).expanduser()
    if dataset.augment.crop:
        raise ConfigError(f"{what}: {dataset.name} trains on random crops of larger images; leave data.extra empty")
    if not file.is_file():
        raise ConfigError(f"{what}: no such file; needed: an .npz with the arrays image and label")
    try:
        with zipfile.ZipFile(file) as archive:
            extra = _unpack(archive, Path(cache_dir).expanduser(), what)
        _check_fits(extra.arrays(), what, dataset)
    except ConfigError:
        raise
    except _DAMAGE_ERRORS as error:
        raise ConfigError(f"{what} is not a complete .npz of plain arrays: {error}") from error
    return extra


def check_share(batch_size: int, share: float) -> None:
    """Check that every batch has both extra images and images of the data set.

    Raises:
        ConfigError: rounding leaves none of one kind.
    """
    count = round(batch_size * share)
    if not 1 <= count < batch_size:
        raise ConfigError(f"data.extra_share={share:g}: {count} of batch_size={batch_size}; needed: some of each kind")


def _unpack(archive: zipfile.ZipFile, cache_dir: Path, what: str) -> ExtraImages:
    digest = _archive_digest(archive)
    extra = ExtraImages(digest, cache_dir / f"extra-{digest}-v1")
    with file_lock(extra.folder.with_name(f".{extra.folder.name}.lock")):
        if not _is_complete(extra.folder):
            for array, names in ARRAY_NAMES.items():
                _unpack_array(archive, names, extra.folder / f"{array}.npy", what)
            with atomic_write(extra.folder / DIGESTS_FILE) as temporary:
                temporary.write_text(json.dumps(_array_digests(extra.folder)), encoding="utf-8")
    return extra


def _is_complete(folder: Path) -> bool:
    """Whether the arrays are there and unchanged since they were written."""
    try:
        return bool(json.loads((folder / DIGESTS_FILE).read_text(encoding="utf-8")) == _array_digests(folder))
    except (OSError, ValueError):
        return False


def _array_digests(folder: Path) -> dict[str, str]:
    return {name: content_digest(folder / f"{name}.npy") for name in ARRAY_NAMES}


def _archive_digest(archive: zipfile.ZipFile) -> str:
    """16 hex digits from the names, sizes and checksums in the archive's index, without reading gigabytes."""
    members = sorted((info.filename, info.file_size, info.CRC) for info in archive.infolist())
    return hashlib.blake2b(repr(members).encode(), digest_size=8).hexdigest()


def _unpack_array(archive: zipfile.ZipFile, names: Sequence[str], to: Path, what: str) -> None:
    members = [f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()]
    if not members:
        present = ", ".join(name.removesuffix(".npy") for name in archive.namelist())
        raise ConfigError(f"{what} holds {present}; needed: {' or '.join(names)}")
    _check_disk_space(read_npy_header(archive, members[0]).nbytes, to.parent.parent, what)
    # A member of an .npz is an .npy file: copied in chunks, so that it need not fit into memory.
    with archive.open(members[0]) as member, atomic_write(to) as temporary, open(temporary, "wb") as out:
        shutil.copyfileobj(member, out, 1 << 22)


def _check_disk_space(nbytes: int, folder: Path, what: str) -> None:
    """Check before anything is written that `folder` has room for `nbytes`."""
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise ConfigError(
            f"{what} unpacks to {nbytes / 1e9:.3g} GB and {folder} has {free / 1e9:.3g} GB free; free some space or "
            "set another data.cache_dir"
        )


def _check_fits(arrays: Arrays, what: str, dataset: Dataset) -> None:
    check_arrays(arrays, what)
    if arrays.images.shape[1:3] != (dataset.image_size, dataset.image_size):
        raise ConfigError(f"{what}: images are {arrays.images.shape[1:3]}; {dataset.name} has {dataset.image_size}")
    check_labels(arrays.labels, dataset.num_classes, what)
