"""Tiny ImageNet (Stanford CS231n 2015): the official validation images are the test split, whose labels are secret.

50 of the 500 training images of every class, drawn once, are the validation split: 90,000 and 10,000 images, as in
Sparsity Winning Twice (Chen et al. 2022). As published: train/<wnid>/images/*.JPEG, and val/images/*.JPEG with
val_annotations.txt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

from distcond.data.dataset import Augment, Dataset, EncodedSplit, Split
from distcond.data.labels import assign_class_indices
from distcond.data.readers.class_folders import encoded_files, list_class_images
from distcond.data.readers.encoded_parquet import encoded_parquet
from distcond.data.readers.folder_entries import count_and_first, scan_class_folders, scan_image_folder
from distcond.data.readers.layout import Files, Layout, classes_any, fingerprint_any, notes_any, read_any
from distcond.data.splits import hold_out_stratified
from distcond.errors import ConfigError

ANNOTATIONS = "val_annotations.txt"


def tiny_imagenet_files(folder: str, side: int) -> Layout:
    """The layout, in `root/folder` or in the root itself; images of `side` pixels. Classes are numbered by wnid."""
    accepts = f"train/<wnid>/images/*.JPEG and val/{ANNOTATIONS} with val/images/*.JPEG (or in {folder}/)"
    return Layout(
        accepts, partial(_find, folder=folder), partial(_read_files, side=side), classes=_wnids, notes=_notes_on_files
    )


def _wnids(files: Files) -> list[str]:
    return list(assign_class_indices({path.parents[1].name for path in files["train"]}))


def _notes_on_files(root: Path, files: Files) -> list[str]:
    """Images of val/ that the annotations leave out, and entries of train/ that are no images."""
    *_, annotations = files["test"]
    images = scan_image_folder(annotations.parent / "images").images
    left = [Path("val/images", name) for name in images if name not in _annotated(annotations)]
    place = annotations.parents[1] / "train"
    classes, others = scan_class_folders(place)
    left += [Path("train", name) for name in others]
    left += [
        Path("train", c, "images", other) for c in classes for other in scan_image_folder(place / c / "images").others
    ]
    return [f"data.root={root}: not read: {count_and_first([str(path) for path in left])}"] if left else []


def _find(root: Path, folder: str) -> Files | None:
    for place in (root / folder, root):
        if (place / "train").is_dir() and (place / "val" / ANNOTATIONS).is_file():
            annotations = place / "val" / ANNOTATIONS
            images = [annotations.parent / "images" / name for name in _annotated(annotations)]
            return {"train": list_class_images(place / "train", "images"), "test": [*images, annotations]}
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


def _read_files(files: Files, dataset: Dataset, side: int) -> dict[str, EncodedSplit]:
    train = [path.parents[1].name for path in files["train"]]
    *images, annotations = files["test"]
    wnids = _annotated(annotations)
    classes = assign_class_indices(set(train))
    return {
        "train": encoded_files(files["train"], train, classes, side),
        "test": encoded_files(images, [wnids[path.name] for path in images], classes, side),
    }


SIDE = 64
LAYOUTS = (
    tiny_imagenet_files("tiny-imagenet-200", SIDE),
    encoded_parquet({"train": "train", "test": "val"}, side=SIDE),
)


def _read(root: str) -> Mapping[str, Split]:
    return read_any(root, LAYOUTS, DATASET, hold_out_stratified("tiny_imagenet", Fraction(1, 10)))


def _classes(root: str) -> Sequence[str]:
    return classes_any(root, LAYOUTS, DATASET.name)


def _notes(root: str) -> Sequence[str]:
    return notes_any(root, LAYOUTS, DATASET.name)


def _fingerprint(root: str) -> str:
    return fingerprint_any(root, LAYOUTS, DATASET.name)


DATASET = Dataset(
    name="tiny_imagenet",
    summary="110,000 photographs of 200 kinds of things, 64x64; needs data.root",
    num_classes=200,
    image_size=SIDE,
    mean=(0.4802, 0.4481, 0.3975),
    std=(0.2770, 0.2691, 0.2821),
    augment=Augment(pad=4, flip=True),
    splits={"train": 90_000, "val": 10_000, "test": 10_000},
    read=_read,
    fingerprint=_fingerprint,
    classes=_classes,
    notes=_notes,
    any_size=True,
)
