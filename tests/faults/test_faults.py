"""Each kind of fault once; `campaign.py` does them by the dozen, each to a run of its own."""

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
from support.faults.turn import Bench, Tour, Turn

#: What the starts of one run meet, under torchrun.
STARTS = [
    ("worker SIGKILL", "everything SIGKILL"),
    ("disk full in a checkpoint", "disk full"),
    ("driver SIGTERM",),
]
#: Each to a run of its own, on Ray.
TURNS = ["worker exception", "worker hangs (SIGSTOP)", "driver SIGKILL", "storage lost"]
#: By a test of its own, with files of the nodes' own.
ELSEWHERE = ["node lost (another comes)"]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="dcf-", dir="/tmp"))
    yield Bench(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_run_survives_faults_bit_for_bit(bench: Bench, tmp_path: Path) -> None:
    no_disk = bool(why_no_storage(tmp_path))
    starts = [start for start in STARTS if not (no_disk and KINDS[start[0]].disk)]
    outcome = bench.tour(Tour(starts, "local", "memory", disk=not no_disk), random.Random("local"))
    assert outcome["ok"], json.dumps(outcome, indent=1)
    stopped = [start[-1] == "driver SIGTERM" for start in starts]
    assert [word.startswith("stopped: checkpoint") for word in outcome["said"]] == stopped


@pytest.mark.cluster
@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", TURNS)
def test_run_on_ray_survives_a_fault(bench: Bench, tmp_path: Path, kind: str) -> None:
    reason = why_no_storage(tmp_path) if KINDS[kind].disk else ""
    if reason:
        pytest.skip(reason)
    loader = "memory" if ffcv_problem() else "ffcv"
    outcome = bench.outcome(Turn(kind, "ray", loader), random.Random(kind))
    assert outcome["ok"], json.dumps(outcome, indent=1)


def test_every_kind_of_fault_is_tested() -> None:
    assert {*(kind for start in STARTS for kind in start), *TURNS, *ELSEWHERE} == set(KINDS)
