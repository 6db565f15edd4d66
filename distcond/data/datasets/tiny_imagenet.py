"""Tiny ImageNet (Stanford CS231n 2015). The official validation images are the test split: the test labels are secret.

50 of the 500 training images of every class, drawn once, are the validation split: 90,000 and 10,000 images, as in
Sparsity Winning Twice (Chen et al. 2022). Published as train/<wnid>/images/*.JPEG, and val/images/*.JPEG with
val_annotations.txt.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path

from distcond.data.dataset import Augment, Dataset, EncodedSplit
from distcond.data.labels import assign_class_indices
from distcond.data.readers.class_folders import encoded_files, list_class_images
from distcond.data.readers.encoded_parquet import encoded_parquet
from distcond.data.readers.folder_entries import scan_class_folders, scan_image_folder, summarise_names
from distcond.data.readers.layout import Files, Layout, needs_layouts, with_layouts
from distcond.data.splits import hold_out_stratified
from distcond.errors import ConfigError

ANNOTATIONS = "val_annotations.txt"


def tiny_imagenet_files(folder: str, side: int) -> Layout:
    """The published layout, in `root/folder` or in the root; images of `side` pixels. Classes are numbered by wnid."""
    accepts = f"train/<wnid>/images/*.JPEG and val/{ANNOTATIONS} with val/images/*.JPEG (or in {folder}/)"
    return Layout(accepts, partial(_find, folder=folder), partial(_read_files, side=side), classes=_wnids, notes=_notes)


def _find(root: Path, folder: str) -> Files | None:
    for parent in (root / folder, root):
        if (parent / "train").is_dir() and (parent / "val" / ANNOTATIONS).is_file():
            annotations = parent / "val" / ANNOTATIONS
            images = [annotations.parent / "images" / name for name in _read_annotations(annotations)]
            return {"train": list_class_images(parent / "train", "images"), "test": [*images, annotations]}
    return None


def _read_files(files: Files, dataset: Dataset, side: int) -> dict[str, EncodedSplit]:
    train = [path.parents[1].name for path in files["train"]]
    *images, annotations = files["test"]
    wnids = _read_annotations(annotations)
    classes = assign_class_indices(set(train))
    return {
        "train": encoded_files(files["train"], train, classes, side),
        "test": encoded_files(images, [wnids[path.name] for path in images], classes, side),
    }


def _wnids(files: Files) -> list[str]:
    return list(assign_class_indices({path.parents[1].name for path in files["train"]}))


def _notes(root: Path, files: Files) -> list[str]:
    """One line about images of val/ without annotation and entries of train/ that are no images."""
    *_, annotations = files["test"]
    images, annotated = scan_image_folder(annotations.parent / "images").images, _read_annotations(annotations)
    ignored = [Path("val/images", name) for name in images if name not in annotated]
    train = annotations.parents[1] / "train"
    classes, others = scan_class_folders(train)
    ignored += [Path("train", name) for name in others]
    ignored += [
        Path("train", c, "images", other) for c in classes for other in scan_image_folder(train / c / "images").others
    ]
    if not ignored:
        return []
    return [f"data.root={root}: ignored: {summarise_names([str(path) for path in ignored])}"]


def _read_annotations(file: Path) -> dict[str, str]:
    """File name -> wnid, in the order of the file. The bounding boxes are not used."""
    wnids: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split("\t")
        if len(parts) < 2:
            raise ConfigError(f"data.root: {file}, line {number}: expected a file name, a tab and a wnid")
        if not (file.parent / "images" / parts[0]).is_file():
            raise ConfigError(f"data.root: {file}, line {number} names images/{parts[0]}, which is missing")
        wnids[parts[0]] = parts[1].strip()
    if not wnids:
        raise ConfigError(f"data.root: {file} is empty; needed: a line for every image")
    return wnids


SIDE = 64

DATASET = with_layouts(
    Dataset(
        name="tiny_imagenet",
        summary="110,000 photographs of 200 kinds of things, 64x64; needs data.root",
        num_classes=200,
        image_size=SIDE,
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2770, 0.2691, 0.2821),
        augment=Augment(pad=4, flip=True),
        splits={"train": 90_000, "val": 10_000, "test": 10_000},
        read=needs_layouts,
        fingerprint=needs_layouts,
        any_size=True,
    ),
    (
        tiny_imagenet_files("tiny-imagenet-200", SIDE),
        encoded_parquet({"train": "train", "test": "val"}, side=SIDE),
    ),
    hold_out_stratified("tiny_imagenet", Fraction(1, 10)),
)
