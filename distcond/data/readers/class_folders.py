"""Layouts with a folder of image files for each class: of any size, decoded when stored, or of one size, at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.dataset import Arrays, Dataset, EncodedImage, EncodedSplit, check_labels
from distcond.data.image_codec import decode_images
from distcond.data.labels import assign_class_indices, numbers_in_name
from distcond.data.progress_bar import progress_bar
from distcond.data.readers.folder_entries import count_and_first, printable, scan_class_folders, scan_image_folder
from distcond.data.readers.layout import Files, Layout
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
    return {split: list_class_images(root / folder) for split, folder in folders.items()} if folders else None


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
    return describe_unused(root, folders)


def list_class_images(folder: Path, inner: str = "") -> list[Path]:
    """Every image of `folder/<class>/inner/`, class by class.

    Raises:
        ConfigError: there is no class, or one without images or of which images would be lost.
    """
    classes, _ = scan_class_folders(folder)
    if not classes:
        raise ConfigError(f"data.root: {folder} is empty; needed: a folder of images for every class")
    return [path for name in classes for path in list_images(folder / name / inner)]


def list_images(folder: Path) -> list[Path]:
    """The images of a folder by name.

    Raises:
        ConfigError: there is none, or some would be lost.
    """
    images = scan_image_folder(folder).images
    if not images:
        raise ConfigError(f"data.root: {folder} holds no image ({', '.join(USUAL)} ...); fill it or remove it")
    return [folder / name for name in images]


def describe_unused(root: Path, splits: Mapping[str, str]) -> list[str]:
    """A line on everything in `root` that is not read: what lies beside the folders of `splits`, in them, in classes.

    Empty where there is nothing.
    """
    folders = set(splits.values())
    beside = [entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name not in folders]
    left = [Path(name) for name in sorted(beside) if name[0] != "."]
    for folder in sorted(folders):
        classes, others = scan_class_folders(root / folder)
        left += [Path(folder, name) for name in others]
        left += [
            Path(folder, name, other) for name in classes for other in scan_image_folder(root / folder / name).others
        ]
    if not left:
        return []
    return [f"data.root={root}: not read, no images of a class: {count_and_first([str(path) for path in left])}"]


def _read(files: Files, dataset: Dataset) -> dict[str, EncodedSplit]:
    classes = assign_class_indices({path.parent.name for path in files["train"]})
    return {
        split: encoded_files(paths, [path.parent.name for path in paths], classes) for split, paths in files.items()
    }


def folder_names(files: Files) -> list[str]:
    """The names of the classes of training images in the order of their numbers, printable ones."""
    return [printable(name) for name in assign_class_indices({path.parent.name for path in files["train"]})]


def encoded_files(
    paths: Sequence[Path], names: Sequence[str], classes: Mapping[str, int], side: int = 0
) -> EncodedSplit:
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

    return EncodedSplit(np.array([classes[name] for name in names], dtype=np.int64), chunks, side, one)


def folder_images() -> Layout:
    """The layout; with a folder `val/` beside the two, that is the validation split."""
    return Layout(
        "train/<class>/*.png and test/<class>/*.png",
        _find_images,
        _read_images,
        classes=folder_names,
        notes=_image_notes,
    )


def _find_images(root: Path) -> Files | None:
    folders = _image_folders(root)
    if folders is None:
        return None
    return {split: sorted(list_class_images(root / folder), key=_position) for split, folder in folders.items()}


def _image_folders(root: Path) -> dict[str, str] | None:
    if not all((root / split).is_dir() and scan_class_folders(root / split)[0] for split in ("train", "test")):
        return None
    val = val_folder(root)
    return {"train": "train", **({"val": val} if val else {}), "test": "test"}


def _image_notes(root: Path, files: Files) -> list[str]:
    folders = _image_folders(root)
    assert folders is not None
    return describe_unused(root, folders)


def _position(path: Path) -> tuple[list[int], str, str]:
    # By number before class: class by class, the held-out last tenth would be one class.
    return numbers_in_name(path.stem), path.stem, path.parent.name


def _read_images(files: Files, dataset: Dataset) -> dict[str, Arrays]:
    classes = assign_class_indices({path.parent.name for path in files["train"]})
    return {split: _read_split(paths, dataset, classes, split) for split, paths in files.items()}


def _read_split(paths: Sequence[Path], dataset: Dataset, classes: dict[str, int], split: str) -> Arrays:
    strange = {path.parent.name for path in paths} - set(classes)
    if strange:
        raise ConfigError(f"data.root: {split}/ has classes that train/ has not: {', '.join(sorted(strange))}")
    labels = np.array([classes[path.parent.name] for path in paths], dtype=np.int64)
    check_labels(labels, dataset.num_classes, f"data.root: {paths[0].parent.parent}")
    images = np.empty((len(paths), dataset.image_size, dataset.image_size, 3), dtype=np.uint8)
    with progress_bar(len(paths), f"decoding {split} images") as advance:
        decode_images(list(paths), images, str(paths[0].parent.parent), advance)
    return Arrays(images, labels)
