"""Layout: parquet shards as data hubs publish them, with an image struct<bytes, path> and a label per row.

Labels are integers or class names. Images have one size here; `encoded_parquet` takes any size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distcond.data.checksums import explain_damage
from distcond.data.dataset import Arrays, Dataset, check_labels
from distcond.data.image_codec import decode_images
from distcond.data.labels import assign_class_indices, index_class_names, parse_class_indices, parse_class_names
from distcond.data.progress_bar import progress_bar
from distcond.data.readers.image_cells import holds_paths_only, image_of_cell
from distcond.data.readers.layout import Files, Layout
from distcond.errors import ConfigError

FOLDERS = (".", "plain_text", "data")
IMAGE_COLUMNS = ("img", "image", "images", "jpg", "jpeg", "png", "webp", "pixels", "path", "file_name")
#: Rows read at a time.
_ROWS = 8192


def parquet_images(label: str = "label", folders: Sequence[str] = FOLDERS) -> Layout:
    """The layout for images of one size. `label` is the label column; the files are in one of `folders`."""
    return Layout(
        accepts=f"train*.parquet and test*.parquet with a column {label} (or in {'/ or '.join(folders[1:])}/)",
        find=partial(_find, folders=folders),
        read=partial(_read, label=label),
        classes=partial(class_names, label=label),
        linked=partial(linked_files, label=label),
    )


def _find(root: Path, folders: Sequence[str]) -> Files | None:
    for folder in folders:
        files = {split: find_shards(root / folder, split) for split in ("train", "test")}
        if all(files.values()):
            return files
    return None


def find_shards(folder: Path, prefix: str) -> list[Path]:
    """The parquet files of one split in a folder, in order.

    Raises:
        ConfigError: shards are missing by the number in their names.
    """
    paths = sorted(folder.glob(f"{prefix}*.parquet"))
    totals = {int(match[1]) for path in paths if (match := re.search(r"-of-(\d+)", path.name))}
    if totals and totals != {len(paths)}:
        raise ConfigError(f"data.root: {folder} has {len(paths)} of {max(totals)} shards of {prefix}; fetch the rest")
    return paths


def _read(files: Files, dataset: Dataset, label: str) -> dict[str, Arrays]:
    labels = read_labels(files, label)
    return {split: _decode_split(paths, dataset, label, split, labels[split]) for split, paths in files.items()}


def _decode_split(
    paths: Sequence[Path], dataset: Dataset, label: str, split: str, labels: dict[Path, np.ndarray]
) -> Arrays:
    tables = [open_table(path) for path in paths]
    count = sum(table.metadata.num_rows for table in tables)
    images = np.empty((count, dataset.image_size, dataset.image_size, 3), dtype=np.uint8)
    first = 0
    with progress_bar(count, f"decoding {split} images") as advance:
        for path, table in zip(paths, tables, strict=True):
            begin = first
            check_labels(labels[path], dataset.num_classes, f"data.root: {path}")
            for blobs in encoded_rows(table, path, label):
                rows = slice(first, first + len(blobs))
                decode_images(blobs, images[rows], str(path), advance, first - begin)
                first = rows.stop
    return Arrays(images, np.concatenate([labels[path] for path in paths]))


def linked_files(files: Files, label: str) -> list[Path]:
    """The image files that the tables refer to by path; empty if the tables hold the images.

    Raises:
        ConfigError: as `encoded_rows`.
    """
    paths = list[Path]()
    for path in (path for paths in files.values() for path in paths):
        table = open_table(path)
        if holds_paths_only(table.schema_arrow.field(image_column(table, path, label)).type):
            paths += [cell for cells in encoded_rows(table, path, label) for cell in cells if isinstance(cell, Path)]
    return list(dict.fromkeys(paths))


def read_labels(files: Files, label: str) -> dict[str, dict[Path, np.ndarray]]:
    """Labels (n,) int64 by split and file. Class names are numbered as in the training files.

    Raises:
        ConfigError: a label is invalid, or some are names and others numbers.
    """
    columns = {split: {path: _read_column(path, label) for path in paths} for split, paths in files.items()}
    kinds = {
        isinstance(column, list): path for split in columns.values() for path, column in split.items() if len(column)
    }
    if len(kinds) > 1:
        raise ConfigError(f"data.root: {label} holds words in {kinds[True]}, numbers in {kinds[False]}; use one kind")
    classes = assign_class_indices(
        {name for column in columns["train"].values() for name in column} if True in kinds else ()
    )
    return {
        split: {
            path: index_class_names(column, classes, f"data.root: {path}") if isinstance(column, list) else column
            for path, column in by_path.items()
        }
        for split, by_path in columns.items()
    }


def class_names(files: Files, label: str) -> Sequence[str]:
    """Class names in the order of their labels: the labels themselves, or the hub's metadata."""
    columns = [column for path in files["train"] if len(column := _read_column(path, label))]
    if columns and isinstance(columns[0], list):
        return list(assign_class_indices({name for column in columns for name in column}))
    metadata = open_table(files["train"][0]).schema_arrow.metadata or {}
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label]
        return [str(name) for name in feature["names"]]
    except (KeyError, TypeError, ValueError):
        return ()


def _read_column(path: Path, label: str) -> np.ndarray | list[str]:
    import pyarrow as pa

    table, what = open_table(path), f"data.root: {path}"
    image_column(table, path, label)
    with _explain_read_errors(path):
        column = table.read(columns=[label]).column(label)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise ConfigError(f"{what}, row {row}: the label is missing; needed: a whole number from 0, or a name")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return parse_class_names(column.to_pylist(), what)
    values = column.to_pylist() if pa.types.is_nested(column.type) else column.to_numpy()
    return parse_class_indices(np.asarray(values), what)


def open_table(path: Path) -> Any:
    """The `pyarrow.parquet.ParquetFile`.

    Raises:
        ConfigError: pyarrow is missing, or the file is damaged.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigError(f"data.root: {path} needs pyarrow: pip install pyarrow; or give a .npz instead") from error
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"data.root: {path} is not a complete parquet file: {explain_damage(path, error)}") from error


@contextmanager
def _explain_read_errors(path: Path, row: int | None = None) -> Iterator[None]:
    """Turn errors of reading a column from `row` on into ConfigError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        where = "" if row is None else f", row {row} or later"
        raise ConfigError(f"data.root: {path}{where} cannot be read: {' '.join(str(error).split())}") from error


def encoded_rows(table: Any, path: Path, label: str, rows: int = _ROWS) -> Iterator[list[bytes | Path]]:
    """The encoded images, `rows` at a time, in any form that `image_cells` takes.

    Raises:
        ConfigError: a column is missing, or a row has no image.
    """
    image, first = image_column(table, path, label), 0
    batches = table.iter_batches(rows, columns=[image])
    while True:
        with _explain_read_errors(path, first):
            batch = next(batches, None)
        if batch is None:
            return
        cells = batch.column(image).to_pylist()
        yield [image_of_cell(cell, path, row) for row, cell in enumerate(cells, first)]
        first += len(cells)


def image_column(table: Any, path: Path, label: str) -> str:
    """The name of the image column.

    Raises:
        ConfigError: the table has no image column or no column `label`.
    """
    names = table.schema_arrow.names
    image = next((name for name in IMAGE_COLUMNS if name in names), None)
    if image is None or label not in names:
        raise ConfigError(
            f"data.root: {path} has columns {names}; needed: {' or '.join(IMAGE_COLUMNS[:2])}, and {label}"
        )
    return image
