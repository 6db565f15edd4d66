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

from distcond.data.ffcv.source import FfcvSource, numba_compiles
from distcond.data.ffcv.writer import write_beton

pytestmark = pytest.mark.usefixtures("needs_ffcv")


def run(code: str, *args: object, **environ: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, args)]
    return subprocess.run(command, env=clean | environ, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_a_dead_reader_raises(tmp_path: Path, make_arrays: Callable[..., Any]) -> None:
    if numba_compiles():
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


# What an import does to a process, in one of its own.
IMPORTED = """
import os, sys, numpy as np, torch
torch.set_num_threads(2)
# parallel_info also tells MKL's count, which a call from any thread sets for all of them.
before = torch.__config__.parallel_info()
from distcond.data.ffcv.source import FfcvSource
from distcond.data.ffcv.source import numba_compiles
batches = [np.arange(10)] * 20
for _ in FfcvSource(sys.argv[1], threads=1).read(batches if sys.argv[2] == "read" else []):
    assert torch.__config__.parallel_info() == before
print(torch.__config__.parallel_info() == before, numba_compiles(), os.environ.get("NUMBA_DISABLE_JIT"))
"""


def test_import_changes_neither_threads_nor_compiles(tmp_path: Path, make_arrays: Callable[..., Any]) -> None:
    write_beton(tmp_path / "a.beton", make_arrays(100))
    assert run(IMPORTED, tmp_path / "a.beton", "read") == "True False 1\n"


@pytest.mark.cluster
def test_numba_compiles_if_asked(tmp_path: Path, make_arrays: Callable[..., Any]) -> None:
    write_beton(tmp_path / "a.beton", make_arrays(100))
    assert run(IMPORTED, tmp_path / "a.beton", "import alone", NUMBA_DISABLE_JIT="0") == "True True 0\n"
