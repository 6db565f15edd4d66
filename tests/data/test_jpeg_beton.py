"""JPEG in FFCV's format: what this project writes, FFCV reads; what it reads, Pillow reads too."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.data.beton import PAGE_SIZE, write_stored
from distcond.data.dataset import EncodedImage
from distcond.data.ffcv_source import FfcvSource
from distcond.data.square import jpeg, jpeg_pixels
from distcond.data.stored import Stored

pytestmark = pytest.mark.usefixtures("needs_ffcv")

# FFCV's own loader and decoder, with nothing of this project's but a quiet import.
THEIRS = """
import sys, numpy as np
from distcond.data.ffcv_import import import_ffcv
import_ffcv()
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader
pipelines = {"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]}
batches = list(Loader(sys.argv[1], 50, num_workers=1, drop_last=False, seed=0, pipelines=pipelines))
np.save(sys.argv[2], np.concatenate([images.copy() for images, _ in batches]))
print([int(label) for _, labels in batches for label in labels[:, 0]])
"""

COMPILED = """
import sys, numpy as np
from distcond.data.ffcv_source import FfcvSource
from distcond.data.ffcv_import import compiles
((x, y),) = FfcvSource(sys.argv[1], threads=2).read([np.arange(120)])
np.save(sys.argv[2], x.numpy())
print(compiles(), y.tolist())
"""


def write(path: Path, blobs: list[bytes], side: int) -> list[np.ndarray]:
    """Write the file, in blocks of odd sizes; the pixels of Pillow."""

    def blocks() -> Iterator[list[bytes]]:
        for first in range(0, len(blobs), 37):
            yield blobs[first : first + 37]

    write_stored(path, Stored(np.arange(len(blobs)), (side, side, 3), True, blocks))
    return [jpeg_pixels(blob) for blob in blobs]


@pytest.fixture(scope="module")
def blobs(on_disk: Any) -> list[bytes]:
    """120 JPEG files of 96 pixels, as Pillow writes them: every subsampling, some progressive."""
    import io

    from PIL import Image

    found = []
    for row in range(120):
        out = io.BytesIO()
        image = Image.fromarray(on_disk.photo(96, 96, seed=row))
        image.save(out, "JPEG", quality=60 + row % 40, subsampling=row % 3, progressive=row % 5 == 0)
        found.append(jpeg(EncodedImage(out.getvalue(), "x"), 96))
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_its_pixels_are_pillows(tmp_path: Path, blobs: list[bytes], threads: int) -> None:
    expected = np.stack(write(tmp_path / "a.beton", blobs, 96))
    source = FfcvSource(tmp_path / "a.beton", threads=threads)
    assert (len(source), source.image_size) == (120, 96)
    parts = [np.array(part) for part in ([5], [3, 3, 119], list(range(120)))]
    for part, (x, y) in zip(parts, source.read(parts), strict=True):
        assert np.array_equal(x.numpy(), expected[part])
        assert np.array_equal(y.numpy(), part)


def run(code: str, *args: object, **environ: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, args)]
    return subprocess.run(command, env={**os.environ, **environ}, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_ffcv_itself_reads_it(tmp_path: Path, blobs: list[bytes]) -> None:
    expected = np.stack(write(tmp_path / "a.beton", blobs, 96)).astype(np.int64)
    assert run(THEIRS, tmp_path / "a.beton", tmp_path / "x.npy") == f"{list(range(120))}\n"
    # FFCV asks libjpeg for a fast, inexact transform.
    difference = np.abs(np.load(tmp_path / "x.npy").astype(np.int64) - expected)
    assert 0 < difference.max() <= 16
    assert difference.mean() < 2


@pytest.mark.cluster
def test_where_numba_compiles_the_pixels_are_the_same(tmp_path: Path, blobs: list[bytes]) -> None:
    expected = np.stack(write(tmp_path / "a.beton", blobs, 96))
    said = run(COMPILED, tmp_path / "a.beton", tmp_path / "x.npy", NUMBA_DISABLE_JIT="0")
    assert said == f"True {list(range(120))}\n"
    assert np.array_equal(np.load(tmp_path / "x.npy"), expected)


def test_images_do_not_cross_a_page(tmp_path: Path, on_disk: Any) -> None:
    rng = np.random.default_rng(0)
    side = 512
    noise = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(16)]
    blobs = [on_disk.encode(image, "JPEG") for image in noise]
    assert sum(map(len, blobs)) > PAGE_SIZE
    expected = np.stack(write(tmp_path / "a.beton", blobs, side))
    source = FfcvSource(tmp_path / "a.beton")
    ((x, _),) = source.read([np.arange(16)])
    assert np.array_equal(x.numpy(), expected)
    table = source._loader.reader.alloc_table
    page = int(source._loader.reader.page_size)
    assert (table["ptr"] // page == (table["ptr"] + table["size"] - 1) // page).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_damaged_image_raises(tmp_path: Path, blobs: list[bytes], threads: int) -> None:
    path = tmp_path / "a.beton"
    write(path, blobs, 96)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(blobs[60], bytes(len(blobs[60]))))
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="reader thread died") as failure:
        list(FfcvSource(path, threads=threads).read([np.arange(120)]))
    assert "a JPEG of the .beton file is damaged" in str(failure.value.__cause__)
    assert threading.active_count() == before
