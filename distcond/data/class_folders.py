"""Layout: one image file of any size per example, a folder for each class, decoded only when it is stored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.class_names import class_numbers
from distcond.data.dataset import Dataset, Encoded, EncodedImage
from distcond.data.layout import Files, Layout
from distcond.errors import ConfigError

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp")
_CHUNK = 512


def class_folders(*choices: Mapping[str, str]) -> Layout:
    """The layout. Each choice says which folder is "train", "test", perhaps "val"; the first that is there counts."""
    accepts = " or ".join(", ".join(f"{folder}/<class>/*.jpg" for folder in splits.values()) for splits in choices)
    return Layout(accepts, partial(_find, choices=choices), _read)


def _find(root: Path, choices: Sequence[Mapping[str, str]]) -> Files | None:
    for folders in choices:
        if all((root / folder).is_dir() for folder in folders.values()):
            return {split: images_of_classes(root / folder) for split, folder in folders.items()}
    return None


def images_of_classes(folder: Path, inner: str = "") -> list[Path]:
    """Every image of `folder/<class>/inner/`, class by class.

    Raises:
        ConfigError: there is no class, or one without images.
    """
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    if not classes:
        raise ConfigError(f"data.root: {folder} is empty; needed: a folder of images for every class")
    return [path for name in classes for path in images_in(folder / name / inner)]


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by name; hidden files and those of other kinds are left out.

    Raises:
        ConfigError: there is none.
    """
    names = os.listdir(folder) if folder.is_dir() else []
    images = sorted(name for name in names if name.lower().endswith(SUFFIXES) and name[0] != ".")
    if not images:
        raise ConfigError(f"data.root: {folder} holds no image ({', '.join(SUFFIXES)}); fill it or remove it")
    return [folder / name for name in images]


def _read(files: Files, dataset: Dataset) -> dict[str, Encoded]:
    classes = class_numbers({path.parent.name for path in files["train"]})
    return {
        split: encoded_files(paths, [path.parent.name for path in paths], classes) for split, paths in files.items()
    }


def encoded_files(paths: Sequence[Path], names: Sequence[str], classes: Mapping[str, int], side: int = 0) -> Encoded:
    """A split of files with the names of their classes.

    Raises:
        ConfigError: a class that the training images have not.
    """
    for path, name in zip(paths, names, strict=True):
        if name not in classes:
            raise ConfigError(f"data.root: {path} is of class {name}, which the training images do not have")

    def chunks() -> Iterator[Sequence[EncodedImage]]:
        for first in range(0, len(paths), _CHUNK):
            yield [EncodedImage(path, str(path)) for path in paths[first : first + _CHUNK]]

    return Encoded(np.array([classes[name] for name in names], dtype=np.int64), chunks, side)
