from __future__ import annotations

import contextlib
import multiprocessing
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.data.dataset import Arrays
from distcond.data.ffcv.source import import_ffcv
from distcond.data.ffcv.writer import write_beton
from distcond.errors import ConfigError
from support.forked import fork, status

pytestmark = pytest.mark.usefixtures("needs_ffcv")


def write_by_ffcv(folder: Path) -> None:
    """FFCV's own files beside the arrays; in a process of its own, since its writer forks and prints."""
    import_ffcv()
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    warnings.simplefilter("ignore")
    with open(folder / "said", "w") as said, contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        for path in folder.glob("*.npz"):
            arrays = np.load(path)
            rows = list(zip(arrays["images"], arrays["labels"].tolist(), strict=True))
            fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
            writer = DatasetWriter(path.with_suffix(".theirs"), fields, page_size=1 << 21, num_workers=1)
            writer.from_indexed_dataset(rows)


def test_the_file_equals_ffcvs(tmp_path: Path, make_arrays: Callable[..., Any]) -> None:
    # Three pages with a rest on each; one page that is not full; exactly one full page.
    cases: list[Arrays] = [make_arrays(1500, 32), make_arrays(7, 8), make_arrays(682, 32)]
    for number, arrays in enumerate(cases):
        np.savez(tmp_path / f"{number}.npz", **arrays._asdict())
    assert status(fork(write_by_ffcv, tmp_path)) == 0
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
def test_images_too_large_for_the_format_are_refused(tmp_path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"a\.beton"):
        write_beton(tmp_path / "a.beton", Arrays(images, labels))
    assert list(tmp_path.iterdir()) == []
