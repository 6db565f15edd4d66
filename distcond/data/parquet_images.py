"""Layout: parquet shards as the data hubs publish them, an image struct<bytes, path> and an integer label per row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distcond.data.dataset import Arrays
from distcond.data.decode import decode
from distcond.data.layout import Files, Layout
from distcond.data.progress import progress
from distcond.errors import ConfigError

FOLDERS = (".", "plain_text", "data")
IMAGE_COLUMNS = ("img", "image")
#: Rows held in their encoded form at a time.
_ROWS = 8192


def parquet_images(label: str = "label", test: str = "test") -> Layout:
    """The layout. `label` is the column of the labels, `test` how the test files' names begin."""
    return Layout(
        accepts=f"train*.parquet and {test}*.parquet (or in plain_text/ or data/)",
        find=partial(_find, test=test),
        read=partial(_read, label=label),
    )


def _find(root: Path, test: str) -> Files | None:
    for folder in FOLDERS:
        files = {"train": _shards(root / folder, "train"), "test": _shards(root / folder, test)}
        if all(files.values()):
            return files
    return None


def _shards(folder: Path, prefix: str) -> list[Path]:
    paths = sorted(folder.glob(f"{prefix}*.parquet"))
    totals = {int(match[1]) for path in paths if (match := re.search(r"-of-(\d+)", path.name))}
    if totals and totals != {len(paths)}:
        raise ConfigError(f"data.root: {folder} has {len(paths)} of {max(totals)} shards of {prefix}; fetch the rest")
    return paths


def _read(files: Files, image_size: int, label: str) -> dict[str, Arrays]:
    return {split: _read_split(paths, image_size, label, split) for split, paths in files.items()}


def _read_split(paths: Sequence[Path], image_size: int, label: str, split: str) -> Arrays:
    tables = [_open(path) for path in paths]
    count = sum(table.metadata.num_rows for table in tables)
    images = np.empty((count, image_size, image_size, 3), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    first = 0
    with progress(count, f"decoding {split} images") as advance:
        for path, table in zip(paths, tables, strict=True):
            for blobs, values in _batches(table, path, label):
                rows = slice(first, first + len(values))
                labels[rows] = values
                decode(blobs, images[rows], f"{path} from row {first} of {split}", advance)
                first = rows.stop
    return Arrays(images, labels)


def _open(path: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigError(f"data.root: {path} needs pyarrow: pip install pyarrow; or give a .npz instead") from error
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"data.root: {path} is not a whole parquet file: {error}") from error


def _batches(table: Any, path: Path, label: str) -> Iterator[tuple[list[bytes], np.ndarray]]:
    names = table.schema_arrow.names
    image = next((name for name in IMAGE_COLUMNS if name in names), None)
    if image is None or label not in names:
        raise ConfigError(f"data.root: {path} has columns {names}; needed: {' or '.join(IMAGE_COLUMNS)}, and {label}")
    for batch in table.iter_batches(_ROWS, columns=[image, label]):
        column = batch.column(image)
        blobs = (column if _is_binary(column) else column.field("bytes")).to_pylist()
        if None in blobs:
            raise ConfigError(f"data.root: {path} names image files but does not hold them; give one with the bytes")
        yield blobs, batch.column(label).to_numpy(zero_copy_only=False)


def _is_binary(column: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type))
