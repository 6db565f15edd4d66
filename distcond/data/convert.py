"""Converting a data set, once per machine, into the files that a loader opens at once."""

from __future__ import annotations

import json
import logging
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
from distcond.errors import ConfigError

_log = logging.getLogger(__name__)

LoaderName = Literal["ffcv", "memory"]
SUFFIXES: Mapping[LoaderName, tuple[str, ...]] = {"ffcv": (".beton",), "memory": MEMORY_SUFFIXES}


class Index(NamedTuple):
    """What converted files hold."""

    sizes: dict[str, int]  # images in "train", "val", "test"
    num_labels: int  # one more than the largest


def convert(dataset: Dataset, root: str, folder: Path, loader: LoaderName) -> Index:
    """Write the three splits of `dataset` into `folder`.

    Raises:
        ConfigError: the root does not hold it, or something in it is not as the data set says.
    """
    # The other loader's decoded images may lie there already.
    done = None if dataset.jpeg else read_index(folder, "memory")
    splits: Mapping[str, Split]
    splits = {split: map_arrays(folder, split) for split in SPLITS} if done else _read(dataset, root)
    _check(dataset, splits, root)
    for split in SPLITS:
        _write(folder, split, to_stored_split(splits[split], dataset, f"decoding {split} images"), loader)
    labels = [splits[split].labels for split in SPLITS]
    index = Index({split: len(part) for split, part in zip(SPLITS, labels, strict=True)}, _num_labels(labels))
    # Last: its presence says that the others are whole.
    with atomic_write(_file(folder, loader)) as aside:
        held = {**index._asdict(), "of": folder.name, "content": _content(folder, loader)}
        aside.write_text(json.dumps(held, indent=1), encoding="utf-8")
    return index


def _read(dataset: Dataset, root: str) -> Mapping[str, Split]:
    """The splits, their classes numbered in the order that is asked for."""
    splits = dataset.read(root)
    if dataset.class_order == NATURAL:
        return splits
    names = dataset.classes(root)
    return {
        split: content._replace(labels=reorder_labels(content.labels, names, dataset.class_order))
        for split, content in splits.items()
    }


def read_index(folder: Path, loader: LoaderName) -> Index | None:
    """What the files in `folder` hold, if they are those that were written there.

    By their content, of which a part is looked at: the size of another data set's file may be the same.
    """
    try:
        index = json.loads(_file(folder, loader).read_text(encoding="utf-8"))
        found = Index(index["sizes"], index["num_labels"])
        return found if (index["of"], index["content"]) == (folder.name, _content(folder, loader)) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def log_why_reconverted(folder: Path, loader: LoaderName) -> None:
    """Say why files that are there are written anew."""
    try:
        index = json.loads(_file(folder, loader).read_text(encoding="utf-8"))
        kept, found = index.get("content"), _content(folder, loader)
        of = index.get("of", folder.name)
    except (OSError, ValueError, AttributeError):
        return  # nothing there, or a conversion that was killed
    if kept is None:
        _log.info("data.cache_dir: %s is of an earlier version, which kept no digests; converting again", folder)
    elif of != folder.name:
        _log.warning("data.cache_dir: %s holds what was written for %s; converting again", folder, of)
    elif kept != found:
        name = next((name for name in found if kept.get(name) != found[name]), "a file")
        _log.warning("data.cache_dir: %s is not what was written there; converting again", folder / name)


def check_num_classes(dataset: Dataset, index: Index, root: str) -> None:
    """Images whose number of classes the root decides have as many as `dataset` says.

    Raises:
        ConfigError: they have not.
    """
    if dataset.any_size and index.num_labels != dataset.num_classes:
        raise ConfigError(
            f"data.root={root} holds {index.num_labels} classes, not the {dataset.num_classes} of {dataset.name}; "
            f"fetch the rest, or state data.num_classes={index.num_labels}"
        )


def _check(dataset: Dataset, splits: Mapping[str, Split], root: str) -> None:
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
    without = np.flatnonzero(counts["train"] == 0).tolist()
    if without:
        raise ConfigError(f"data.root: {dataset.name} train: no image of class {without[0]} of {dataset.num_classes}")
    for split in ("val", "test"):
        missing, classes = int((counts[split] == 0).sum()), dataset.num_classes
        if missing:
            _log.warning("data.root: %s %s: no image of %d of %d classes", dataset.name, split, missing, classes)


def _num_labels(labels: list[np.ndarray]) -> int:
    return 1 + max(int(part.max()) for part in labels)


def _write(folder: Path, split: str, content: StoredSplit, loader: LoaderName) -> None:
    if loader == "memory":
        write_arrays(folder, split, content)
        return
    from distcond.data.ffcv.writer import write_stored

    write_stored(folder / f"{split}.beton", content)


def _file(folder: Path, loader: LoaderName) -> Path:
    return folder / f"{loader}.json"


def _content(folder: Path, loader: LoaderName) -> dict[str, str]:
    names = [f"{split}{suffix}" for split in SPLITS for suffix in SUFFIXES[loader]]
    return {name: content_digest(folder / name) for name in names}
