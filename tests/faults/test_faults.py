"""Each kind of fault once, as `campaign.py` does them by the dozen."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distcond.data.ffcv_import import ffcv_problem

HERE = Path(__file__).parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TURNS = [
    ("worker exception", "ray"), ("worker SIGKILL", "local"), ("worker hangs (SIGSTOP)", "ray"),
    ("driver SIGTERM", "local"), ("driver SIGKILL", "ray"), ("everything SIGKILL", "local"),
    ("node lost (another comes)", "ray"), ("disk full", "local"), ("storage lost", "ray"),
    ("disk full in a checkpoint", "local"),
]  # fmt: skip


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    """The module `turn`; it and its neighbours import each other by name, as they do in the script."""
    before, paths = set(sys.modules), list(sys.path)
    sys.path[:0] = [str(HERE), str(HERE.parent / "launch")]
    spec = importlib.util.spec_from_file_location("turn", HERE / "turn.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = paths
    yield module
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and "tests" in Path(str(sys.modules[name].__file__)).parts:
            del sys.modules[name]


@pytest.fixture(scope="module")
def bench(modules: Any) -> Iterator[Any]:
    folder = Path(tempfile.mkdtemp(prefix="dcf-", dir="/tmp"))
    yield modules.Bench(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("kind", "launcher"),
    [pytest.param(*turn, marks=pytest.mark.ray if turn[1] == "ray" else ()) for turn in TURNS],
)
def test_a_run_that_something_happens_to_comes_to_the_end_it_would_have_come_to(
    modules: Any, bench: Any, tmp_path: Path, kind: str, launcher: str
) -> None:
    reason = sys.modules["storage"].why_no_storage(tmp_path) if modules.KINDS[kind].disk else ""
    if reason:
        pytest.skip(reason)
    loader = "memory" if launcher == "local" or ffcv_problem() else "ffcv"
    outcome = bench.outcome(modules.Turn(kind, launcher, loader), random.Random(kind))
    assert outcome["ok"], json.dumps(outcome, indent=1)


def test_every_kind_is_among_them(modules: Any) -> None:
    assert {kind for kind, _ in TURNS} == set(modules.KINDS)
