"""Each kind of fault once; `campaign.py` does them by the dozen, each to a run of its own."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from distcond.data.ffcv.source import ffcv_problem
from support.faults.kinds import KINDS
from support.faults.storage import why_no_storage
from support.faults.turn import Bench, Tour

#: By launcher, what the starts of one run meet.
STARTS = {
    "local": [
        ("worker SIGKILL", "everything SIGKILL"),
        ("disk full in a checkpoint", "disk full"),
        ("driver SIGTERM",),
    ],
    "ray": [
        ("worker exception", "worker hangs (SIGSTOP)", "driver SIGKILL"),
        ("storage lost",),
    ],
}
#: By a test of its own, with files of the nodes' own.
ELSEWHERE = {"node lost (another comes)"}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="dcf-", dir="/tmp"))
    yield Bench(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.cluster
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("launcher", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_run_survives_faults_bit_for_bit(bench: Bench, tmp_path: Path, launcher: str) -> None:
    loader = "memory" if launcher == "local" or ffcv_problem() else "ffcv"
    no_disk = bool(why_no_storage(tmp_path))
    starts = [start for start in STARTS[launcher] if not (no_disk and KINDS[start[0]].disk)]
    outcome = bench.tour(Tour(starts, launcher, loader, disk=not no_disk), random.Random(launcher))
    assert outcome["ok"], json.dumps(outcome, indent=1)
    stopped = [start[-1] == "driver SIGTERM" for start in starts]
    assert [word.startswith("stopped: checkpoint") for word in outcome["said"]] == stopped


def test_every_kind_of_fault_is_tested() -> None:
    assert {kind for starts in STARTS.values() for start in starts for kind in start} | ELSEWHERE == set(KINDS)
