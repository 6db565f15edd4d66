"""Layout: one image file of the data set's size per example, `train/<class>/` and `test/<class>/`, decoded at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distcond.data.class_folders import folder_names, images_of_classes, unused, val_folder
from distcond.data.class_names import class_numbers, numbers
from distcond.data.dataset import Arrays, Dataset, check_labels
from distcond.data.decode import decode
from distcond.data.folder_entries import class_folders_of
from distcond.data.layout import Files, Layout
from distcond.data.progress import progress
from distcond.errors import ConfigError


def folder_images() -> Layout:
    """The layout; with a folder `val/` beside the two, that is the validation split."""
    return Layout("train/<class>/*.png and test/<class>/*.png", _find, _read, classes=folder_names, notes=_notes)


def _find(root: Path) -> Files | None:
    folders = _folders(root)
    if folders is None:
        return None
    return {split: sorted(images_of_classes(root / folder), key=_position) for split, folder in folders.items()}


def _folders(root: Path) -> dict[str, str] | None:
    if not all((root / split).is_dir() and class_folders_of(root / split)[0] for split in ("train", "test")):
        return None
    val = val_folder(root)
    return {"train": "train", **({"val": val} if val else {}), "test": "test"}


def _notes(root: Path, files: Files) -> list[str]:
    folders = _folders(root)
    assert folders is not None
    return unused(root, folders)


def _position(path: Path) -> tuple[list[int], str, str]:
    # By number before class: class by class, the held-out last tenth would be one class.
    return numbers(path.stem), path.stem, path.parent.name


def _read(files: Files, dataset: Dataset) -> dict[str, Arrays]:
    classes = class_numbers({path.parent.name for path in files["train"]})
    return {split: _read_split(paths, dataset, classes, split) for split, paths in files.items()}


def _read_split(paths: Sequence[Path], dataset: Dataset, classes: dict[str, int], split: str) -> Arrays:
    strange = {path.parent.name for path in paths} - set(classes)
    if strange:
        raise ConfigError(f"data.root: {split}/ has classes that train/ has not: {', '.join(sorted(strange))}")
    labels = np.array([classes[path.parent.name] for path in paths], dtype=np.int64)
    check_labels(labels, dataset.num_classes, f"data.root: {paths[0].parent.parent}")
    images = np.empty((len(paths), dataset.image_size, dataset.image_size, 3), dtype=np.uint8)
    with progress(len(paths), f"decoding {split} images") as advance:
        decode(list(paths), images, str(paths[0].parent.parent), advance)
    return Arrays(images, labels)
