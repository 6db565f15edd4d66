"""Layout: parquet shards as the data hubs publish them, an image struct<bytes, path> and an integer label per row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distcond.data.dataset import Arrays, Dataset, check_labels
from distcond.data.decode import decode
from distcond.data.layout import Files, Layout
from distcond.data.progress import progress
from distcond.errors import ConfigError

FOLDERS = (".", "plain_text", "data")
IMAGE_COLUMNS = ("img", "image")
#: Rows held in their encoded form at a time.
_ROWS = 8192


def parquet_images(label: str = "label", folders: Sequence[str] = FOLDERS) -> Layout:
    """The layout, for images of one size. `label` is the column of the labels, `folders` where the files may lie."""
    return Layout(
        accepts=f"train*.parquet and test*.parquet with a column {label} (or in {'/ or '.join(folders[1:])}/)",
        find=partial(_find, folders=folders),
        read=partial(_read, label=label),
    )


def _find(root: Path, folders: Sequence[str]) -> Files | None:
    for folder in folders:
        files = {split: shards(root / folder, split) for split in ("train", "test")}
        if all(files.values()):
            return files
    return None


def shards(folder: Path, prefix: str) -> list[Path]:
    """The parquet files of one split in a folder, in order.

    Raises:
        ConfigError: the number in their names says that some are missing.
    """
    paths = sorted(folder.glob(f"{prefix}*.parquet"))
    totals = {int(match[1]) for path in paths if (match := re.search(r"-of-(\d+)", path.name))}
    if totals and totals != {len(paths)}:
        raise ConfigError(f"data.root: {folder} has {len(paths)} of {max(totals)} shards of {prefix}; fetch the rest")
    return paths


def _read(files: Files, dataset: Dataset, label: str) -> dict[str, Arrays]:
    return {split: _read_split(paths, dataset, label, split) for split, paths in files.items()}


def _read_split(paths: Sequence[Path], dataset: Dataset, label: str, split: str) -> Arrays:
    tables = [open_table(path) for path in paths]
    count = sum(table.metadata.num_rows for table in tables)
    images = np.empty((count, dataset.image_size, dataset.image_size, 3), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    first = 0
    with progress(count, f"decoding {split} images") as advance:
        for path, table in zip(paths, tables, strict=True):
            for blobs, values in encoded_rows(table, path, label):
                check_labels(values, dataset.num_classes, f"data.root: {path}")
                rows = slice(first, first + len(values))
                labels[rows] = values
                decode(blobs, images[rows], f"{path} from row {first} of {split}", advance)
                first = rows.stop
    return Arrays(images, labels)


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
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"data.root: {path} is not a whole parquet file: {error}") from error


def encoded_rows(table: Any, path: Path, label: str, rows: int = _ROWS) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """The encoded images and the labels, `rows` at a time.

    Raises:
        ConfigError: other columns than those needed, or images that are not in the file.
    """
    image = image_column(table, path, label)
    for batch in table.iter_batches(rows, columns=[image, label]):
        column = batch.column(image)
        blobs = (column if _is_binary(column) else column.field("bytes")).to_pylist()
        if None in blobs:
            raise ConfigError(f"data.root: {path} names image files but does not hold them; give one with the bytes")
        yield blobs, batch.column(label).to_numpy(zero_copy_only=False)


def image_column(table: Any, path: Path, label: str) -> str:
    """The name of the column with the images.

    Raises:
        ConfigError: there is none, or none of labels.
    """
    names = table.schema_arrow.names
    image = next((name for name in IMAGE_COLUMNS if name in names), None)
    if image is None or label not in names:
        raise ConfigError(f"data.root: {path} has columns {names}; needed: {' or '.join(IMAGE_COLUMNS)}, and {label}")
    return image


def _is_binary(column: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type))
