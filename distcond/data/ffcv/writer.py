"""Writes FFCV's file format: images of one size, raw or JPEG, and their labels.

FFCV's `DatasetWriter` forks worker processes, which is unsafe once CUDA or Ray threads run, and it hangs if one of them
dies. For images of one size this module writes the same file (raw images: byte for byte) in one pass, with FFCV's
record types.
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

#: Version of FFCV's format that is written here.
VERSION = 2
#: FFCV's smallest page. An image does not cross a page border; the rest of a page stays zero.
PAGE_SIZE = 1 << 21


def write_beton(path: Path, arrays: Arrays) -> None:
    """Write one decoded split to `path`.

    Raises:
        ConfigError: `arrays` are not 3-channel uint8 images of one size, or too large for the format.
        ImportError, OSError: FFCV is missing.
    """
    check_arrays(arrays, path.name)
    write_stored(path, arrays_to_stored_split(arrays))


def write_stored(path: Path, split: StoredSplit) -> None:
    """Write one split to `path`, with the fields "image" (RGB, raw or JPEG) and "label" (int64).

    Raises:
        ConfigError: images are too large for the format, or reading `split` raises it.
        ImportError, OSError: FFCV is missing.
    """
    if max(split.shape[:2]) >= 1 << 16:
        raise ConfigError(f"{path.name}: FFCV takes images below 65536 pixels a side; use data.loader=memory")
    import_ffcv()
    needed = len(split.labels) * math.prod(split.shape)  # of JPEGs, at most
    with atomic_write(path, needed) as temporary, open(temporary, "wb") as file:
        _write(file, split, path.name)


def _write(file: BinaryIO, split: StoredSplit, name: str) -> None:
    from ffcv import types

    assert types.CURRENT_VERSION == VERSION, f"FFCV's format is now {types.CURRENT_VERSION}; this writes {VERSION}"
    fields, records = _fields(), _records(split)
    header = np.zeros(1, dtype=types.HeaderType)
    # A JPEG is longer than its pixels by at most its header.
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
    """Appends images to a file, page by page."""

    def __init__(self, file: BinaryIO, begin: int, page: int) -> None:
        self._file, self._begin, self._page = file, begin, page
        self._position = begin
        file.seek(begin)

    def put(self, image: bytes) -> int:
        """Write one image and return its offset."""
        size = len(image)
        assert size <= self._page, size
        left_in_page = -(self._position - self._begin) % self._page
        if self._position > self._begin and 0 < left_in_page < size:
            self._position += left_in_page
            self._file.seek(self._position)  # skipped bytes read as zeros
        self._file.write(image)
        self._position += size
        return self._position - size

    @property
    def end(self) -> int:
        """Offset of the end of the last page."""
        return self._position + -(self._position - self._begin) % self._page


def _write_images(pages: _Pages, split: StoredSplit, name: str) -> np.ndarray:
    """Write all images and return FFCV's table of their offsets."""
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
