"""Layout: Tiny ImageNet as published: train/<wnid>/images/*.JPEG, and val/images/*.JPEG with val_annotations.txt."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from distcond.data.class_folders import encoded_files, images_of_classes
from distcond.data.class_names import class_numbers
from distcond.data.dataset import Dataset, Encoded
from distcond.data.folder_entries import class_folders_of, entries_of, some
from distcond.data.layout import Files, Layout
from distcond.errors import ConfigError

ANNOTATIONS = "val_annotations.txt"


def tiny_imagenet_files(folder: str, side: int) -> Layout:
    """The layout, in `root/folder` or in the root itself; images of `side` pixels. Classes are numbered by wnid."""
    accepts = f"train/<wnid>/images/*.JPEG and val/{ANNOTATIONS} with val/images/*.JPEG (or in {folder}/)"
    return Layout(accepts, partial(_find, folder=folder), partial(_read, side=side), classes=_wnids, notes=_notes)


def _wnids(files: Files) -> list[str]:
    return list(class_numbers({path.parents[1].name for path in files["train"]}))


def _notes(root: Path, files: Files) -> list[str]:
    """Images of val/ that the annotations leave out, and entries of train/ that are no images."""
    *_, annotations = files["test"]
    images = entries_of(annotations.parent / "images").images
    left = [Path("val/images", name) for name in images if name not in _annotated(annotations)]
    place = annotations.parents[1] / "train"
    classes, others = class_folders_of(place)
    left += [Path("train", name) for name in others]
    left += [Path("train", c, "images", other) for c in classes for other in entries_of(place / c / "images").others]
    return [f"data.root={root}: not read: {some([str(path) for path in left])}"] if left else []


def _find(root: Path, folder: str) -> Files | None:
    for place in (root / folder, root):
        if (place / "train").is_dir() and (place / "val" / ANNOTATIONS).is_file():
            annotations = place / "val" / ANNOTATIONS
            images = [annotations.parent / "images" / name for name in _annotated(annotations)]
            return {"train": images_of_classes(place / "train", "images"), "test": [*images, annotations]}
    return None


def _annotated(file: Path) -> dict[str, str]:
    """File name -> wnid, in the order of the file. What follows on a line (the box of the object) is not used."""
    found: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split("\t")
        if len(parts) < 2:
            raise ConfigError(f"data.root: {file}, line {number}: expected a file name, a tab and a wnid")
        if not (file.parent / "images" / parts[0]).is_file():
            raise ConfigError(f"data.root: {file}, line {number} names images/{parts[0]}, which is missing")
        found[parts[0]] = parts[1].strip()
    if not found:
        raise ConfigError(f"data.root: {file} is empty; needed: a line for every image")
    return found


def _read(files: Files, dataset: Dataset, side: int) -> dict[str, Encoded]:
    train = [path.parents[1].name for path in files["train"]]
    *images, annotations = files["test"]
    wnids = _annotated(annotations)
    classes = class_numbers(set(train))
    return {
        "train": encoded_files(files["train"], train, classes, side),
        "test": encoded_files(images, [wnids[path.name] for path in images], classes, side),
    }
