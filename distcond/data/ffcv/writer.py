"""Writing FFCV's file format: images of one size, raw or JPEG, and their labels.

FFCV's `DatasetWriter` forks worker processes (unsafe once CUDA or Ray threads run), waits for ever if one dies and
draws its bar everywhere. Images of one size need none of that: the same file (raw images: byte for byte) is written
here in one pass from FFCV's own record types.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from distcond.atomic_io import atomic_write
from distcond.data.dataset import Arrays, check_arrays
from distcond.data.ffcv.source import import_ffcv
from distcond.data.progress_bar import progress_bar
from distcond.data.stored_split import StoredSplit, arrays_to_stored_split
from distcond.errors import ConfigError

#: The version of FFCV's format that is written here.
VERSION = 2
#: FFCV's smallest page. An image does not cross a page border, and a page's rest stays zero.
PAGE_SIZE = 1 << 21


def write_beton(path: Path, arrays: Arrays) -> None:
    """Write one decoded split as the whole of `path`.

    Raises:
        ConfigError: `arrays` are not 3-channel uint8 images of one size, or too large for the format.
        ImportError, OSError: FFCV is missing.
    """
    check_arrays(arrays, path.name)
    write_stored(path, arrays_to_stored_split(arrays))


def write_stored(path: Path, split: StoredSplit) -> None:
    """Write one split as the whole of `path`, with the fields "image" (RGB, raw or JPEG) and "label" (int64).

    Raises:
        ConfigError: images too large for the format, or what reading `split` raises.
        ImportError, OSError: FFCV is missing.
    """
    if max(split.shape[:2]) >= 1 << 16:
        raise ConfigError(f"{path.name}: FFCV holds images below 65536 pixels a side; use data.loader=memory")
    import_ffcv()
    with atomic_write(path) as aside, open(aside, "wb") as file:
        _write(file, split, path.name)


def _write(file: BinaryIO, split: StoredSplit, name: str) -> None:
    from ffcv import types

    assert types.CURRENT_VERSION == VERSION, f"FFCV's format is now {types.CURRENT_VERSION}; this writes {VERSION}"
    fields, records = _fields(), _records(split)
    header = np.zeros(1, dtype=types.HeaderType)
    # No JPEG is longer than its pixels by more than its header.
    page = max(PAGE_SIZE, 1 << (math.prod(split.shape) + split.jpeg * 4096 - 1).bit_length())
    begin = math.ceil((header.nbytes + fields.nbytes + records.nbytes) / page) * page
    pages = _Pages(file, begin, page)
    table = _write_images(pages, split, name)
    records["f0"]["data_ptr"] = table["ptr"]
    header[0] = (VERSION, len(fields), page, len(records), pages.end)
    file.seek(pages.end)
    file.write(table.tobytes())
    file.seek(0)
    for block in (header, fields, records):
        file.write(block.tobytes())


class _Pages:
    """Where the next image goes."""

    def __init__(self, file: BinaryIO, begin: int, page: int) -> None:
        self._file, self._begin, self._page = file, begin, page
        self._at = begin
        file.seek(begin)

    def put(self, image: bytes) -> int:
        """Write one image; where it begins."""
        size = len(image)
        assert size <= self._page, size
        room = -(self._at - self._begin) % self._page
        if self._at > self._begin and 0 < room < size:
            self._at += room
            self._file.seek(self._at)  # skipped bytes read as zeros
        self._file.write(image)
        self._at += size
        return self._at - size

    @property
    def end(self) -> int:
        """The border of the last page."""
        return self._at + -(self._at - self._begin) % self._page


def _write_images(pages: _Pages, split: StoredSplit, name: str) -> np.ndarray:
    """Write every image; FFCV's table of where they lie."""
    from ffcv import types

    table = np.zeros(len(split.labels), dtype=types.ALLOC_TABLE_TYPE)
    table["sample_id"], row = np.arange(len(table)), 0
    with progress_bar(0 if split.jpeg else len(table), f"writing {name}") as advance:
        for block in split.blocks():
            images = block.reshape(len(block), -1) if isinstance(block, np.ndarray) else block
            for image in images:
                table["ptr"][row] = pages.put(image if isinstance(image, bytes) else image.tobytes())
                table["size"][row] = len(image)
                row += 1
            advance(len(block))
    assert row == len(table), (row, len(table))
    return table


def _fields() -> np.ndarray:
    from ffcv import types

    type_ids = {handler: type_id for type_id, handler in types.TYPE_ID_HANDLER.items()}
    fields = np.zeros(2, dtype=types.FieldDescType)
    for row, (name, field) in enumerate({"image": _image_field(), "label": _label_field()}.items()):
        fields[row]["type_id"] = type_ids[type(field)]
        fields[row]["name"][: len(name)] = np.frombuffer(name.encode("ascii"), dtype="<u1")
        fields[row]["arguments"][:] = field.to_binary()[0]
    return fields


def _records(split: StoredSplit) -> np.ndarray:
    from ffcv import types
    from ffcv.fields.rgb_image import IMAGE_MODES

    records = np.zeros(len(split.labels), dtype=types.get_metadata_type([_image_field(), _label_field()]))
    records["f0"]["mode"] = IMAGE_MODES["jpg" if split.jpeg else "raw"]
    records["f0"]["height"], records["f0"]["width"] = split.shape[:2]
    records["f1"] = split.labels
    return records


def _image_field() -> Any:
    from ffcv.fields import RGBImageField

    return RGBImageField(write_mode="raw")


def _label_field() -> Any:
    from ffcv.fields import IntField

    return IntField()
