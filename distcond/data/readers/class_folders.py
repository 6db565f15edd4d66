"""Layouts with one folder of image files per class.

`class_folders` takes images of any size and decodes them when they are stored. `folder_images` takes images of one size
and decodes them at once.
"""

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
from distcond.data.readers.folder_entries import printable_name, scan_class_folders, scan_image_folder, summarise_names
from distcond.data.readers.layout import Files, Layout
from distcond.errors import ConfigError

#: Accepted names of the folder of validation images.
VAL_FOLDERS = ("val", "valid", "validation")
_EXAMPLE_SUFFIXES = (".png", ".jpg", ".webp", ".tif")
_CHUNK = 512


def class_folders(*choices: Mapping[str, str]) -> Layout:
    """The layout for images of any size.

    Each choice maps "train", "test" and optionally "val" to a folder. The first choice whose folders all exist is used.
    """
    accepts = " or ".join(", ".join(f"{folder}/<class>/*.jpg" for folder in splits.values()) for splits in choices)
    folders = partial(_choose_folders, choices=choices)
    return Layout(
        accepts,
        lambda root: _list_splits(root, folders(root)),
        _read_encoded,
        classes=class_names,
        notes=lambda root, files: describe_ignored(root, folders(root)),
    )


def folder_images() -> Layout:
    """The layout for images of one size; the folder `val/` is optional."""
    return Layout(
        "train/<class>/*.png and test/<class>/*.png",
        _find_in_number_order,
        _read_decoded,
        classes=class_names,
        notes=lambda root, files: describe_ignored(root, _train_test_folders(root)),
    )


def list_class_images(folder: Path, inner: str = "") -> list[Path]:
    """Every image of `folder/<class>/inner/`, class by class.

    Raises:
        ConfigError: there is no class, a class has no image, or images would be ignored (`scan_image_folder`).
    """
    classes, _ = scan_class_folders(folder)
    if not classes:
        raise ConfigError(f"data.root: {folder} is empty; needed: a folder of images for every class")
    return [path for name in classes for path in _list_images(folder / name / inner)]


def class_names(files: Files) -> list[str]:
    """Printable class names in the order of their labels."""
    return [printable_name(name) for name in assign_class_indices({path.parent.name for path in files["train"]})]


def encoded_files(
    paths: Sequence[Path], names: Sequence[str], classes: Mapping[str, int], side: int = 0
) -> EncodedSplit:
    """A split of image files with the class names `names`, numbered by `classes`.

    Raises:
        ConfigError: a class is not in `classes`, those of the training images.
    """
    for path, name in zip(paths, names, strict=True):
        if name not in classes:
            what = f"data.root: {printable_name(str(path))} is of class {printable_name(name)}"
            raise ConfigError(f"{what}, which the training images do not have")

    def image_at(row: int) -> EncodedImage:
        return EncodedImage(paths[row], printable_name(str(paths[row])))

    def chunks() -> Iterator[Sequence[EncodedImage]]:
        for first in range(0, len(paths), _CHUNK):
            yield [image_at(row) for row in range(first, min(first + _CHUNK, len(paths)))]

    return EncodedSplit(np.array([classes[name] for name in names], dtype=np.int64), chunks, side, image_at)


def describe_ignored(root: Path, splits: Mapping[str, str] | None) -> list[str]:
    """One line about ignored entries of `root`: other folders, and entries that are no class or no image.

    `splits` maps each split to its folder. Empty if nothing is ignored.
    """
    folders = set((splits or {}).values())
    others = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name not in folders)
    ignored = [Path(name) for name in others if name[0] != "."]
    for folder in sorted(folders):
        classes, entries = scan_class_folders(root / folder)
        ignored += [Path(folder, name) for name in entries]
        ignored += [
            Path(folder, name, other) for name in classes for other in scan_image_folder(root / folder / name).others
        ]
    if not ignored:
        return []
    return [f"data.root={root}: ignored, not an image of a class: {summarise_names([str(path) for path in ignored])}"]


def _choose_folders(root: Path, choices: Sequence[Mapping[str, str]]) -> dict[str, str] | None:
    """The folder of each split by the first choice that is there; "val" stands for its other names too."""
    val = _val_folder(root)
    for choice in choices:
        folders = {split: val or folder if folder == "val" else folder for split, folder in choice.items()}
        if all((root / folder).is_dir() for folder in folders.values()):
            return folders
    return None


def _list_splits(root: Path, folders: Mapping[str, str] | None) -> Files | None:
    return {split: list_class_images(root / folder) for split, folder in folders.items()} if folders else None


def _read_encoded(files: Files, dataset: Dataset) -> dict[str, EncodedSplit]:
    classes = assign_class_indices({path.parent.name for path in files["train"]})
    return {
        split: encoded_files(paths, [path.parent.name for path in paths], classes) for split, paths in files.items()
    }


def _train_test_folders(root: Path) -> dict[str, str] | None:
    if not all((root / split).is_dir() and scan_class_folders(root / split)[0] for split in ("train", "test")):
        return None
    val = _val_folder(root)
    return {"train": "train", **({"val": val} if val else {}), "test": "test"}


def _find_in_number_order(root: Path) -> Files | None:
    files = _list_splits(root, _train_test_folders(root))
    return files and {split: sorted(paths, key=_number_then_class) for split, paths in files.items()}


def _number_then_class(path: Path) -> tuple[list[int], str, str]:
    # By number before class: in class order, the held-out last tenth would be a single class.
    return numbers_in_name(path.stem), path.stem, path.parent.name


def _read_decoded(files: Files, dataset: Dataset) -> dict[str, Arrays]:
    classes = assign_class_indices({path.parent.name for path in files["train"]})
    return {split: _decode_split(paths, dataset, classes, split) for split, paths in files.items()}


def _decode_split(paths: Sequence[Path], dataset: Dataset, classes: dict[str, int], split: str) -> Arrays:
    unknown = {path.parent.name for path in paths} - set(classes)
    if unknown:
        raise ConfigError(f"data.root: {split}/ has classes that train/ does not have: {', '.join(sorted(unknown))}")
    labels = np.array([classes[path.parent.name] for path in paths], dtype=np.int64)
    check_labels(labels, dataset.num_classes, f"data.root: {paths[0].parent.parent}")
    images = np.empty((len(paths), dataset.image_size, dataset.image_size, 3), dtype=np.uint8)
    with progress_bar(len(paths), f"decoding {split} images") as advance:
        decode_images(list(paths), images, str(paths[0].parent.parent), advance)
    return Arrays(images, labels)


def _list_images(folder: Path) -> list[Path]:
    images = scan_image_folder(folder).images
    if not images:
        suffixes = ", ".join(_EXAMPLE_SUFFIXES)
        raise ConfigError(f"data.root: {folder} holds no image ({suffixes} ...); add images or remove the folder")
    return [folder / name for name in images]


def _val_folder(root: Path) -> str:
    """The name of the folder of validation images, "" if there is none; two of them raise ConfigError."""
    names = [name for name in VAL_FOLDERS if (root / name).is_dir()]
    if len(names) > 1:
        raise ConfigError(f"data.root: {root} has {' and '.join(names)}, two names of one split; keep one of them")
    return names[0] if names else ""
