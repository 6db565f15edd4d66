"""Layout: parquet shards with images of any size, read in chunks and decoded only when they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from distcond.data.dataset import Dataset, EncodedImage, EncodedSplit, check_labels
from distcond.data.readers.folder_entries import printable_name
from distcond.data.readers.layout import Files, Layout
from distcond.data.readers.parquet_images import (
    FOLDERS,
    class_names,
    encoded_rows,
    find_shards,
    linked_files,
    open_table,
    read_labels,
)

LABEL = "label"
#: Rows read at a time.
_ROWS = 512


def encoded_parquet(*choices: Mapping[str, str], side: int = 0) -> Layout:
    """The layout. Each choice maps "train", "test" and optionally "val" to a prefix of file names.

    `side` is the side in pixels of every image of the published data set; 0 = any.
    """
    accepts = " or ".join(", ".join(f"{prefix}*.parquet" for prefix in splits.values()) for splits in choices)
    return Layout(
        accepts,
        partial(_find, choices=choices),
        partial(_read, side=side),
        classes=partial(class_names, label=LABEL),
        linked=partial(linked_files, label=LABEL),
    )


def _find(root: Path, choices: Sequence[Mapping[str, str]]) -> Files | None:
    for folder in FOLDERS:
        for prefixes in choices:
            files = {split: find_shards(root / folder, prefix) for split, prefix in prefixes.items()}
            if all(files.values()):
                return files
    return None


def _read(files: Files, dataset: Dataset, side: int) -> dict[str, EncodedSplit]:
    labels = read_labels(files, LABEL)
    return {split: _encoded_split(paths, labels[split], dataset, side) for split, paths in files.items()}


def _encoded_split(paths: Sequence[Path], labels: dict[Path, np.ndarray], dataset: Dataset, side: int) -> EncodedSplit:
    def chunks() -> Iterator[Sequence[EncodedImage]]:
        for path in paths:
            first = 0
            for blobs in encoded_rows(open_table(path), path, LABEL, _ROWS):
                yield [
                    EncodedImage(blob, f"{printable_name(str(path))}, row {row}")
                    for row, blob in enumerate(blobs, first)
                ]
                first += len(blobs)

    for path in paths:
        # Without a known number of classes any label is valid, except hidden test labels (-1).
        check_labels(labels[path], dataset.num_classes or 1 << 31, f"data.root: {path}")
    return EncodedSplit(np.concatenate([labels[path] for path in paths]), chunks, side)
