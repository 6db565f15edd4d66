"""One cell of a table's image column as an encoded image, in any form that published tables use.

A cell holds the bytes of a file; a struct with bytes or a path; a path relative to the table's folder or its parent; or
pixels as nested lists of integers (H, W), (H, W, 1), (H, W, 3) or (3, H, W), which are encoded as PNG.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distcond.errors import ConfigError

_BYTES_FIELDS, _PATH_FIELDS = ("bytes", "data", "image", "content"), ("path", "file_name", "filename")
#: First bytes of PNG, JPEG, GIF, BMP, WebP, TIFF.
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")


def image_of_cell(cell: Any, table: Path, row: int) -> bytes | Path:
    """The encoded image in a cell of row `row` of `table`.

    Raises:
        ConfigError: there is none, or its form is unknown; the message names the file and the row.
    """
    where = f"data.root: {table}, row {row}"
    if isinstance(cell, dict):
        return _image_of_struct(cell, table, row)
    if isinstance(cell, bytes):
        if not cell:
            raise ConfigError(f"{where}: the image is empty")
        return cell
    if isinstance(cell, str):
        return _existing_file(cell, table, where)
    if isinstance(cell, list):
        return _image_of_list(cell, where)
    what = "there is no image" if cell is None else f"the image is a {type(cell).__name__}"
    raise ConfigError(f"{where}: {what}; needed: the bytes of a file, its path, or pixels")


def _image_of_struct(cell: dict[str, Any], table: Path, row: int) -> bytes | Path:
    values = [cell[name] for name in _image_fields(cell) if cell[name]]
    if values:
        return image_of_cell(values[0], table, row)
    fields = ", ".join(f"{name}={value!r:.20}" for name, value in cell.items())
    raise ConfigError(f"data.root: {table}, row {row}: refers to images ({fields}) but does not hold them; give bytes")


def _image_fields(names: Iterable[str]) -> list[str]:
    """The fields of a struct that hold its image: those with bytes, otherwise those with paths."""
    names = list(names)
    return [name for name in _BYTES_FIELDS if name in names] or [name for name in _PATH_FIELDS if name in names]


def holds_paths_only(kind: Any) -> bool:
    """Whether a column of an Arrow type holds paths of image files, which then belong to the data set."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        names = _image_fields([kind.field(number).name for number in range(kind.num_fields)])
        return bool(names) and holds_paths_only(kind.field(names[0]).type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _existing_file(path: str, table: Path, where: str) -> Path:
    candidates = [folder / path for folder in (table.parent, table.parent.parent)]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise ConfigError(
            f"{where}: refers to {path!r}, but {candidates[0]} does not exist; give the file or its bytes"
        )
    return file


def _image_of_list(cell: Sequence[Any], where: str) -> bytes:
    pixels = _to_array(cell)
    if pixels.ndim == 1 and pixels.dtype.kind in "iu" and 0 <= pixels.min(initial=0) <= pixels.max(initial=0) < 256:
        encoded = pixels.astype(np.uint8).tobytes()
        if encoded.startswith(_SIGNATURES):
            return encoded
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3) and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3))
    if not (is_image and pixels.size and pixels.dtype.kind in "iu" and pixels.min() >= 0 and pixels.max() <= 255):
        form = f"{pixels.dtype} {pixels.shape}" if pixels.dtype != object else "lists of unequal lengths"
        raise ConfigError(f"{where}: the image is {form}; needed: integers 0 to 255, (H, W) or (H, W, 3)")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return _encode_png(pixels.astype(np.uint8))


def _to_array(cell: Sequence[Any]) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return np.array(cell)
    except ValueError:
        return np.empty(0, dtype=object)


def _encode_png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
