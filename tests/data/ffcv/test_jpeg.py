"""JPEG in FFCV's format: FFCV reads what is written here, and pixels equal Pillow's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.data.dataset import EncodedImage
from distcond.data.ffcv.source import FfcvSource, import_ffcv
from distcond.data.ffcv.writer import PAGE_SIZE, write_beton, write_stored
from distcond.data.image_codec import decode_stored_jpeg, encode_jpeg
from distcond.data.stored_split import StoredSplit

pytestmark = pytest.mark.usefixtures("needs_ffcv")

# numba was imported before FFCV, which then compiles: one process reads both forms, since compiling takes it long.
COMPILED = """
import os, sys, numba, numpy as np
from distcond.data.ffcv.source import FfcvSource
from distcond.data.ffcv.source import numba_compiles
for path in sys.argv[1:]:
    source = FfcvSource(path, threads=2)
    read = list(source.read([np.arange(0, 60), np.arange(60, len(source))]))
    np.save(path + ".npy", np.concatenate([x.numpy() for x, _ in read]))
    print(np.concatenate([y.numpy() for _, y in read]).tolist())
print(numba_compiles(), os.environ.get("NUMBA_DISABLE_JIT"))
"""


def write(path: Path, blobs: list[bytes], side: int) -> list[np.ndarray]:
    """Write the file, in blocks of odd sizes; the pixels of Pillow."""

    def blocks() -> Iterator[list[bytes]]:
        for first in range(0, len(blobs), 37):
            yield blobs[first : first + 37]

    write_stored(path, StoredSplit(np.arange(len(blobs)), (side, side, 3), True, blocks))
    return [decode_stored_jpeg(blob) for blob in blobs]


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
        found.append(encode_jpeg(EncodedImage(out.getvalue(), "x"), 96))
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_pixels_equal_pillows(tmp_path: Path, blobs: list[bytes], threads: int) -> None:
    expected = np.stack(write(tmp_path / "a.beton", blobs, 96))
    source = FfcvSource(tmp_path / "a.beton", threads=threads)
    assert (len(source), source.image_size) == (120, 96)
    parts = [np.array(part) for part in ([5], [3, 3, 119], list(range(120)))]
    for part, (x, y) in zip(parts, source.read(parts), strict=True):
        assert np.array_equal(x.numpy(), expected[part])
        assert np.array_equal(y.numpy(), part)


def run(code: str, *args: object) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, args)]
    return subprocess.run(command, env=clean, check=True, stdout=subprocess.PIPE, text=True).stdout


def read_by_ffcv(path: Path) -> tuple[np.ndarray, list[int]]:
    """FFCV's own loader and decoder, with nothing of this project's but a quiet import."""
    import_ffcv()
    from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader

    pipelines = {"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]}
    loader: Any = Loader(str(path), 50, num_workers=1, drop_last=False, seed=0, pipelines=pipelines)
    batches = [(images.copy(), labels[:, 0].tolist()) for images, labels in loader]
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), [label for part in labels for label in part]


def test_ffcv_itself_reads_it(tmp_path: Path, blobs: list[bytes]) -> None:
    expected = np.stack(write(tmp_path / "a.beton", blobs, 96)).astype(np.int64)
    pixels, labels = read_by_ffcv(tmp_path / "a.beton")
    assert labels == list(range(120))
    # FFCV asks libjpeg for a fast, inexact transform.
    difference = np.abs(pixels.astype(np.int64) - expected)
    assert 0 < difference.max() <= 16
    assert difference.mean() < 2


@pytest.mark.cluster
def test_compiled_decoding_gives_the_same_pixels(
    tmp_path: Path, blobs: list[bytes], make_arrays: Callable[..., Any]
) -> None:
    jpeg_file, raw_file, raw = tmp_path / "a.beton", tmp_path / "b.beton", make_arrays(100)
    expected = {jpeg_file: np.stack(write(jpeg_file, blobs, 96)), raw_file: raw.images}
    write_beton(raw_file, raw)
    said = run(COMPILED, *expected).splitlines()
    assert said == [f"{list(range(120))}", f"{list(range(100))}", "True None"]
    for path, pixels in expected.items():
        assert np.array_equal(np.load(f"{path}.npy"), pixels)


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
