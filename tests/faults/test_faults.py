"""Each kind of fault once, as `campaign.py` does them by the dozen."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from distcond.data.ffcv_import import ffcv_problem
from support.faults.kinds import KINDS
from support.faults.storage import why_no_storage
from support.faults.turn import Bench, Turn

TURNS = [
    ("worker exception", "ray"), ("worker SIGKILL", "local"), ("worker hangs (SIGSTOP)", "ray"),
    ("driver SIGTERM", "local"), ("driver SIGKILL", "ray"), ("everything SIGKILL", "local"),
    ("node lost (another comes)", "ray"), ("disk full", "local"), ("storage lost", "ray"),
    ("disk full in a checkpoint", "local"),
]  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="dcf-", dir="/tmp"))
    yield Bench(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.cluster
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kind", "launcher"),
    [pytest.param(*turn, marks=pytest.mark.ray if turn[1] == "ray" else ()) for turn in TURNS],
)
def test_run_survives_a_fault_bit_for_bit(bench: Bench, tmp_path: Path, kind: str, launcher: str) -> None:
    reason = why_no_storage(tmp_path) if KINDS[kind].disk else ""
    if reason:
        pytest.skip(reason)
    loader = "memory" if launcher == "local" or ffcv_problem() else "ffcv"
    outcome = bench.outcome(Turn(kind, launcher, loader), random.Random(kind))
    assert outcome["ok"], json.dumps(outcome, indent=1)


def test_every_kind_of_fault_is_tested() -> None:
    assert {kind for kind, _ in TURNS} == set(KINDS)
