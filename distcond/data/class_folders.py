"""Layout: one image file of any size per example, a folder for each class, decoded only when it is stored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.class_names import class_numbers
from distcond.data.dataset import Dataset, Encoded, EncodedImage
from distcond.data.folder_entries import class_folders_of, entries_of, printable, some
from distcond.data.layout import Files, Layout
from distcond.errors import ConfigError

USUAL = (".png", ".jpg", ".webp", ".tif")
#: Names that folders of validation images have.
VAL = ("val", "valid", "validation")
_CHUNK = 512


def class_folders(*choices: Mapping[str, str]) -> Layout:
    """The layout. Each choice says which folder is "train", "test", perhaps "val"; the first that is there counts."""
    accepts = " or ".join(", ".join(f"{folder}/<class>/*.jpg" for folder in splits.values()) for splits in choices)
    notes = partial(_notes, choices=choices)
    return Layout(accepts, partial(_find, choices=choices), _read, classes=folder_names, notes=notes)


def _find(root: Path, choices: Sequence[Mapping[str, str]]) -> Files | None:
    folders = _folders(root, choices)
    return {split: images_of_classes(root / folder) for split, folder in folders.items()} if folders else None


def _folders(root: Path, choices: Sequence[Mapping[str, str]]) -> dict[str, str] | None:
    """The folder of each split by the first choice that is there; "val" stands for its other names, too."""
    val = val_folder(root)
    for choice in choices:
        folders = {split: val or folder if folder == "val" else folder for split, folder in choice.items()}
        if all((root / folder).is_dir() for folder in folders.values()):
            return folders
    return None


def val_folder(root: Path) -> str:
    """The name of the folder of validation images; "" where there is none.

    Raises:
        ConfigError: there are two.
    """
    found = [name for name in VAL if (root / name).is_dir()]
    if len(found) > 1:
        raise ConfigError(f"data.root: {root} has {' and '.join(found)}, two names of one folder; keep one of them")
    return found[0] if found else ""


def _notes(root: Path, files: Files, choices: Sequence[Mapping[str, str]]) -> list[str]:
    folders = _folders(root, choices)
    assert folders is not None
    return unused(root, folders)


def images_of_classes(folder: Path, inner: str = "") -> list[Path]:
    """Every image of `folder/<class>/inner/`, class by class.

    Raises:
        ConfigError: there is no class, or one without images or of which images would be lost.
    """
    classes, _ = class_folders_of(folder)
    if not classes:
        raise ConfigError(f"data.root: {folder} is empty; needed: a folder of images for every class")
    return [path for name in classes for path in images_in(folder / name / inner)]


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by name.

    Raises:
        ConfigError: there is none, or some would be lost.
    """
    images = entries_of(folder).images
    if not images:
        raise ConfigError(f"data.root: {folder} holds no image ({', '.join(USUAL)} ...); fill it or remove it")
    return [folder / name for name in images]


def unused(root: Path, splits: Mapping[str, str]) -> list[str]:
    """A line on everything in `root` that is not read: what lies beside the folders of `splits`, in them, in classes.

    Empty where there is nothing.
    """
    folders = set(splits.values())
    beside = [entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name not in folders]
    left = [Path(name) for name in sorted(beside) if name[0] != "."]
    for folder in sorted(folders):
        classes, others = class_folders_of(root / folder)
        left += [Path(folder, name) for name in others]
        left += [Path(folder, name, other) for name in classes for other in entries_of(root / folder / name).others]
    if not left:
        return []
    return [f"data.root={root}: not read, no images of a class: {some([str(path) for path in left])}"]


def _read(files: Files, dataset: Dataset) -> dict[str, Encoded]:
    classes = class_numbers({path.parent.name for path in files["train"]})
    return {
        split: encoded_files(paths, [path.parent.name for path in paths], classes) for split, paths in files.items()
    }


def folder_names(files: Files) -> list[str]:
    """The names of the classes of training images in the order of their numbers, printable ones."""
    return [printable(name) for name in class_numbers({path.parent.name for path in files["train"]})]


def encoded_files(paths: Sequence[Path], names: Sequence[str], classes: Mapping[str, int], side: int = 0) -> Encoded:
    """A split of files with the names of their classes.

    Raises:
        ConfigError: a class that the training images have not.
    """
    for path, name in zip(paths, names, strict=True):
        if name not in classes:
            what = f"data.root: {printable(str(path))} is of class {printable(name)}"
            raise ConfigError(f"{what}, which the training images do not have")

    def one(row: int) -> EncodedImage:
        return EncodedImage(paths[row], printable(str(paths[row])))

    def chunks() -> Iterator[Sequence[EncodedImage]]:
        for first in range(0, len(paths), _CHUNK):
            yield [one(row) for row in range(first, min(first + _CHUNK, len(paths)))]

    return Encoded(np.array([classes[name] for name in names], dtype=np.int64), chunks, side, one)
