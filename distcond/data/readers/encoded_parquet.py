"""Layout: parquet shards with images of any size, read a chunk at a time and decoded only when they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.dataset import Dataset, EncodedImage, EncodedSplit, check_labels
from distcond.data.readers.folder_entries import printable
from distcond.data.readers.layout import Files, Layout
from distcond.data.readers.parquet_images import (
    FOLDERS,
    encoded_rows,
    label_names,
    labels_of,
    named_files,
    open_table,
    shards,
)

LABEL = "label"
#: Encoded images held at a time.
_ROWS = 512


def encoded_parquet(*choices: Mapping[str, str], side: int = 0) -> Layout:
    """The layout. Each choice says how the names of the files of "train", "test" and perhaps "val" begin.

    `side` is what every image of the published data set measures; 0 = any.
    """
    accepts = " or ".join(", ".join(f"{prefix}*.parquet" for prefix in splits.values()) for splits in choices)
    classes, named = partial(label_names, label=LABEL), partial(named_files, label=LABEL)
    return Layout(accepts, partial(_find, choices=choices), partial(_read, side=side), classes=classes, named=named)


def _find(root: Path, choices: Sequence[Mapping[str, str]]) -> Files | None:
    for folder in FOLDERS:
        for prefixes in choices:
            files = {split: shards(root / folder, prefix) for split, prefix in prefixes.items()}
            if all(files.values()):
                return files
    return None


def _read(files: Files, dataset: Dataset, side: int) -> dict[str, EncodedSplit]:
    labels = labels_of(files, LABEL)
    return {split: _split(paths, labels[split], dataset, side) for split, paths in files.items()}


def _split(paths: Sequence[Path], labels: dict[Path, np.ndarray], dataset: Dataset, side: int) -> EncodedSplit:
    def chunks() -> Iterator[Sequence[EncodedImage]]:
        for path in paths:
            first = 0
            for blobs in encoded_rows(open_table(path), path, LABEL, _ROWS):
                yield [
                    EncodedImage(blob, f"{printable(str(path))}, row {row}") for row, blob in enumerate(blobs, first)
                ]
                first += len(blobs)

    for path in paths:
        # Without a stated number any class is one, but hidden test labels (-1) are none.
        check_labels(labels[path], dataset.num_classes or 1 << 31, f"data.root: {path}")
    return EncodedSplit(np.concatenate([labels[path] for path in paths]), chunks, side)
