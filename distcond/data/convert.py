"""Converts a data set, once per machine, into files that a loader opens without decoding."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from distcond.atomic_io import atomic_write
from distcond.data.checksums import content_digest
from distcond.data.dataset import SPLITS, Arrays, Dataset, Split, check_arrays, check_labels
from distcond.data.labels import NATURAL, reorder_labels
from distcond.data.stored_split import NPY_SUFFIXES as MEMORY_SUFFIXES
from distcond.data.stored_split import StoredSplit, map_arrays, to_stored_split, write_arrays
from distcond.disk_space import name_full_disk
from distcond.errors import ConfigError

_log = logging.getLogger(__name__)

LoaderName = Literal["ffcv", "memory"]
SUFFIXES: Mapping[LoaderName, tuple[str, ...]] = {"ffcv": (".beton",), "memory": MEMORY_SUFFIXES}


class Index(NamedTuple):
    """Content of converted files."""

    sizes: dict[str, int]  # images in "train", "val", "test"
    num_labels: int  # the largest label + 1


def convert(dataset: Dataset, root: str, folder: Path, loader: LoaderName) -> Index:
    """Write the three splits of `dataset` into `folder`.

    Raises:
        ConfigError: the root does not hold the data set, or its content contradicts the description.
    """
    # The in-memory loader's decoded images may be there already.
    decoded = None if dataset.jpeg else read_index(folder, "memory")
    splits: Mapping[str, Split]
    splits = {split: map_arrays(folder, split) for split in SPLITS} if decoded else _read_splits(dataset, root)
    _check_splits(dataset, splits, root)
    for split in SPLITS:
        _write(folder, split, to_stored_split(splits[split], dataset, f"decoding {split} images"), loader)
    labels = [splits[split].labels for split in SPLITS]
    index = Index({split: len(part) for split, part in zip(SPLITS, labels, strict=True)}, _num_labels(labels))
    # Written last: it marks the other files as complete.
    with atomic_write(_index_file(folder, loader)) as temporary:
        record = {**index._asdict(), "of": folder.name, "content": _file_digests(folder, loader)}
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return index


def _read_splits(dataset: Dataset, root: str) -> Mapping[str, Split]:
    """The splits with labels in the data set's class order."""
    splits = dataset.read(root)
    if dataset.class_order == NATURAL:
        return splits
    names = dataset.classes(root)
    return {
        split: content._replace(labels=reorder_labels(content.labels, names, dataset.class_order))
        for split, content in splits.items()
    }


def read_index(folder: Path, loader: LoaderName) -> Index | None:
    """The index of the converted files in `folder`; None unless they are complete and unchanged.

    Compares content digests, because files of another data set may have the same size.
    """
    try:
        record = json.loads(_index_file(folder, loader).read_text(encoding="utf-8"))
        index = Index(record["sizes"], record["num_labels"])
        return index if (record["of"], record["content"]) == (folder.name, _file_digests(folder, loader)) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def log_why_reconverted(folder: Path, loader: LoaderName) -> None:
    """Log why existing files are converted again."""
    try:
        record = json.loads(_index_file(folder, loader).read_text(encoding="utf-8"))
        recorded, actual = record.get("content"), _file_digests(folder, loader)
        name = record.get("of", folder.name)
    except (OSError, ValueError, AttributeError):
        return  # no files, or an interrupted conversion
    if recorded is None:
        _log.info("data.cache_dir: %s was written by an older version without digests; converting again", folder)
    elif name != folder.name:
        _log.warning("data.cache_dir: %s holds files written for %s; converting again", folder, name)
    elif recorded != actual:
        changed = next((name for name in actual if recorded.get(name) != actual[name]), "a file")
        _log.warning("data.cache_dir: %s changed since it was written; converting again", folder / changed)


def check_num_classes(dataset: Dataset, index: Index, root: str) -> None:
    """Check that a root of any number of classes has as many as `dataset`.

    Raises:
        ConfigError: it has not.
    """
    if dataset.any_size and index.num_labels != dataset.num_classes:
        raise ConfigError(
            f"data.root={root} holds {index.num_labels} classes, not the {dataset.num_classes} of {dataset.name}; "
            f"fetch the rest, or set data.num_classes={index.num_labels}"
        )


def _check_splits(dataset: Dataset, splits: Mapping[str, Split], root: str) -> None:
    for split in SPLITS:
        what = f"data.root: {dataset.name} {split}"
        content = splits[split]
        if not len(content.labels):
            raise ConfigError(f"{what}: there is no image")
        if isinstance(content, Arrays):
            check_arrays(content, what)
            if content.images.shape[1:3] != (dataset.image_size, dataset.image_size):
                size = dataset.image_size
                raise ConfigError(f"{what}: images are {content.images.shape[1:3]}, not {size} pixels square")
        check_labels(content.labels, dataset.num_classes, what)
    if len(np.unique(splits["train"].labels)) < 2:
        raise ConfigError(f"data.root: {dataset.name} train: all images are of one class; needed: 2 or more classes")
    if dataset.any_size:
        check_num_classes(dataset, Index({}, _num_labels([splits["train"].labels])), root)
        _check_every_class(dataset, splits)


def _check_every_class(dataset: Dataset, splits: Mapping[str, Split]) -> None:
    counts = {split: np.bincount(splits[split].labels, minlength=dataset.num_classes) for split in SPLITS}
    empty = np.flatnonzero(counts["train"] == 0).tolist()
    if empty:
        raise ConfigError(f"data.root: {dataset.name} train: no image of class {empty[0]} of {dataset.num_classes}")
    for split in ("val", "test"):
        missing, classes = int((counts[split] == 0).sum()), dataset.num_classes
        if missing:
            _log.warning("data.root: %s %s: no image of %d of %d classes", dataset.name, split, missing, classes)


def _num_labels(labels: list[np.ndarray]) -> int:
    return 1 + max(int(part.max()) for part in labels)


def _write(folder: Path, split: str, content: StoredSplit, loader: LoaderName) -> None:
    needed = len(content.labels) * math.prod(content.shape)  # of JPEGs, at most
    with name_full_disk(folder, needed):
        if loader == "memory":
            write_arrays(folder, split, content)
            return
        from distcond.data.ffcv.writer import write_stored

        write_stored(folder / f"{split}.beton", content)


def _index_file(folder: Path, loader: LoaderName) -> Path:
    return folder / f"{loader}.json"


def _file_digests(folder: Path, loader: LoaderName) -> dict[str, str]:
    names = [f"{split}{suffix}" for split in SPLITS for suffix in SUFFIXES[loader]]
    return {name: content_digest(folder / name) for name in names}
