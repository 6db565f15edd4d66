"""Writing FFCV's file format: raw uint8 images of one size and their labels.

FFCV's `DatasetWriter` forks worker processes (unsafe once CUDA or Ray threads run), waits for ever if one dies and
draws its bar everywhere. Raw images of one size need none of that: the same file, byte for byte, is a few large
writes, from FFCV's own record types.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from distcond.aside import written_aside
from distcond.data.dataset import Arrays, check_arrays
from distcond.data.ffcv_import import import_ffcv
from distcond.data.progress import progress
from distcond.errors import ConfigError

#: The version of FFCV's format that is written here.
VERSION = 2
#: FFCV's smallest page. An image does not cross a page border, and a page's rest stays zero.
PAGE_SIZE = 1 << 21


def write_beton(path: Path, arrays: Arrays) -> None:
    """Write one split as the whole of `path`, with the fields "image" (raw RGB) and "label" (int64).

    Raises:
        ConfigError: `arrays` are not 3-channel uint8 images of one size, or too large for the format.
        ImportError, OSError: FFCV is missing.
    """
    check_arrays(arrays, path.name)
    if max(arrays.images.shape[1:3]) >= 1 << 16:
        raise ConfigError(f"{path.name}: FFCV holds images below 65536 pixels a side; use data.loader=memory")
    import_ffcv()
    with written_aside(path) as aside, open(aside, "wb") as file:
        _write(file, arrays, path.name)


def _write(file: BinaryIO, arrays: Arrays, name: str) -> None:
    from ffcv import types

    assert types.CURRENT_VERSION == VERSION, f"FFCV's format is now {types.CURRENT_VERSION}; this writes {VERSION}"
    count, image_bytes = len(arrays.images), arrays.images[0].nbytes
    page = max(PAGE_SIZE, 1 << (image_bytes - 1).bit_length())
    per_page = page // image_bytes
    fields, records = _fields(), _records(arrays)
    header = np.zeros(1, dtype=types.HeaderType)
    begin = math.ceil((header.nbytes + fields.nbytes + records.nbytes) / page) * page
    sample = np.arange(count, dtype=np.uint64)
    pointers = begin + sample // per_page * page + sample % per_page * image_bytes
    records["f0"]["data_ptr"] = pointers
    end = begin + math.ceil(count / per_page) * page
    header[0] = (VERSION, len(fields), page, count, end)
    for block in (header, fields, records):
        file.write(block.tobytes())
    _write_pages(file, arrays.images, begin, page, per_page, name)
    file.seek(end)
    file.write(_allocations(pointers, image_bytes).tobytes())


def _write_pages(file: BinaryIO, images: np.ndarray, begin: int, page: int, per_page: int, name: str) -> None:
    with progress(len(images), f"writing {name}") as advance:
        for number, first in enumerate(range(0, len(images), per_page)):
            chunk = np.ascontiguousarray(images[first : first + per_page])
            file.seek(begin + number * page)  # skipped bytes read as zeros
            file.write(chunk.data)
            advance(len(chunk))


def _fields() -> np.ndarray:
    from ffcv import types

    type_ids = {handler: type_id for type_id, handler in types.TYPE_ID_HANDLER.items()}
    fields = np.zeros(2, dtype=types.FieldDescType)
    for row, (name, field) in enumerate({"image": _image_field(), "label": _label_field()}.items()):
        fields[row]["type_id"] = type_ids[type(field)]
        fields[row]["name"][: len(name)] = np.frombuffer(name.encode("ascii"), dtype="<u1")
        fields[row]["arguments"][:] = field.to_binary()[0]
    return fields


def _records(arrays: Arrays) -> np.ndarray:
    from ffcv import types
    from ffcv.fields.rgb_image import IMAGE_MODES

    records = np.zeros(len(arrays.labels), dtype=types.get_metadata_type([_image_field(), _label_field()]))
    records["f0"]["mode"] = IMAGE_MODES["raw"]
    records["f0"]["height"], records["f0"]["width"] = arrays.images.shape[1:3]
    records["f1"] = arrays.labels
    return records


def _allocations(pointers: np.ndarray, image_bytes: int) -> np.ndarray:
    from ffcv import types

    table = np.zeros(len(pointers), dtype=types.ALLOC_TABLE_TYPE)
    table["sample_id"], table["ptr"], table["size"] = np.arange(len(pointers)), pointers, image_bytes
    return table


def _image_field() -> Any:
    from ffcv.fields import RGBImageField

    return RGBImageField(write_mode="raw")


def _label_field() -> Any:
    from ffcv.fields import IntField

    return IntField()
