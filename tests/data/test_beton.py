from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.data.beton import write_beton
from distcond.data.dataset import Arrays
from distcond.errors import ConfigError

pytestmark = pytest.mark.usefixtures("needs_ffcv")

# In a process of its own, since FFCV's writer forks.
FFCV_WRITER = """
import sys, numpy as np
from pathlib import Path
from distcond.data.ffcv_import import import_ffcv
import_ffcv()
from ffcv.fields import IntField, RGBImageField
from ffcv.writer import DatasetWriter
for path in Path(sys.argv[1]).glob("*.npz"):
    arrays = np.load(path)
    rows = list(zip(arrays["images"], arrays["labels"].tolist()))
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    DatasetWriter(path.with_suffix(".theirs"), fields, page_size=1 << 21, num_workers=1).from_indexed_dataset(rows)
"""


def test_the_file_is_what_ffcv_writes(tmp_path: Path, make_arrays: Callable[..., Any]) -> None:
    # Three pages with a rest on each; one page that is not full; exactly one full page.
    cases: list[Arrays] = [make_arrays(1500, 32), make_arrays(7, 8), make_arrays(682, 32)]
    for number, arrays in enumerate(cases):
        np.savez(tmp_path / f"{number}.npz", **arrays._asdict())
    subprocess.run([sys.executable, "-W", "ignore", "-c", FFCV_WRITER, tmp_path], check=True, capture_output=True)
    for number, arrays in enumerate(cases):
        write_beton(tmp_path / "ours", arrays)
        assert (tmp_path / "ours").read_bytes() == (tmp_path / f"{number}.theirs").read_bytes(), number


def test_writing_leaves_nothing_behind(
    tmp_path: Path, make_arrays: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    threads = threading.active_count()
    write_beton(tmp_path / "a.beton", make_arrays(1000))
    assert capfd.readouterr() == ("", "")
    assert threading.active_count() == threads
    assert multiprocessing.active_children() == []
    assert [path.name for path in tmp_path.iterdir()] == ["a.beton"]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 8, 8, 4), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 8, 8, 3), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2, np.float64)),
        (np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, np.int64)),
        (np.zeros((1, 1, 1 << 16, 3), np.uint8), np.zeros(1, np.int64)),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"a\.beton"):
        write_beton(tmp_path / "a.beton", Arrays(images, labels))
    assert list(tmp_path.iterdir()) == []
