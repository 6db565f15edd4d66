from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.data.beton import write_beton
from distcond.data.ffcv_import import compiles
from distcond.data.ffcv_source import FfcvSource

pytestmark = pytest.mark.usefixtures("needs_ffcv")


def run(code: str, *args: object, **environ: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, args)]
    return subprocess.run(command, env=clean | environ, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_torch_keeps_its_threads(tmp_path: Path, make_arrays: Callable[..., Any]) -> None:
    # parallel_info also tells MKL's count, which a call from any thread sets for all of them.
    code = """
import sys, numpy as np, torch
torch.set_num_threads(2)
before = torch.__config__.parallel_info()
from distcond.data.ffcv_source import FfcvSource
for _ in FfcvSource(sys.argv[1], threads=1).read([np.arange(10)] * 20):
    assert torch.__config__.parallel_info() == before
print(torch.__config__.parallel_info() == before)
"""
    write_beton(tmp_path / "a.beton", make_arrays(100))
    assert run(code, tmp_path / "a.beton") == "True\n"


def test_a_dead_reader_raises(tmp_path: Path, make_arrays: Callable[..., Any]) -> None:
    if compiles():
        pytest.skip("FFCV's compiled decoder does not notice that the file is cut short")
    path = tmp_path / "a.beton"
    write_beton(path, make_arrays(3000))
    source = FfcvSource(path)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="reader thread died") as failure:
        list(source.read([np.arange(2900, 3000)] * 3))
    assert isinstance(failure.value.__cause__, IndexError)
    assert threading.active_count() == before


JIT = """
import os, sys, numpy as np
if sys.argv[2] == "numba first":
    import numba
from distcond.data.ffcv_source import FfcvSource
from distcond.data.ffcv_import import compiles
source = FfcvSource(sys.argv[1], threads=2)
parts = [np.arange(0, 60), np.arange(60, 100)]
for part, (x, y) in zip(parts, source.read(parts), strict=True):
    assert np.array_equal(y.numpy(), part)
    assert np.array_equal(x.numpy(), np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)[part])
print(compiles(), os.environ.get("NUMBA_DISABLE_JIT"))
"""


@pytest.mark.parametrize(
    ("order", "environ", "expected"),
    [
        ("numba later", {}, "False 1\n"),
        pytest.param("numba later", {"NUMBA_DISABLE_JIT": "0"}, "True 0\n", marks=pytest.mark.cluster),
        pytest.param("numba first", {}, "True None\n", marks=pytest.mark.cluster),
    ],
)
def test_numba_compiles_only_if_asked(
    tmp_path: Path, make_arrays: Callable[..., Any], order: str, environ: dict[str, str], expected: str
) -> None:
    write_beton(tmp_path / "a.beton", make_arrays(100))
    assert run(JIT, tmp_path / "a.beton", order, **environ) == expected
