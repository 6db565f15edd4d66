"""Each kind of fault once; `campaign.py` injects many, each into its own run."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from distcond.data.ffcv.source import ffcv_problem
from support.faults.fault_bench import FaultBench, FaultSequence
from support.faults.kinds import KINDS
from support.faults.storage import why_no_storage

#: The faults of each start of one run, by launcher.
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
#: Tested separately, on nodes with their own files.
ELSEWHERE = {"node lost (another comes)"}


@pytest.fixture(scope="module")
def bench() -> Iterator[FaultBench]:
    folder = Path(tempfile.mkdtemp(prefix="dcf-", dir="/tmp"))
    yield FaultBench(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.cluster
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("launcher", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_run_survives_faults_bit_for_bit(bench: FaultBench, tmp_path: Path, launcher: str) -> None:
    loader = "memory" if launcher == "local" or ffcv_problem() else "ffcv"
    no_disk = bool(why_no_storage(tmp_path))
    starts = [start for start in STARTS[launcher] if not (no_disk and KINDS[start[0]].disk)]
    outcome = bench.run_sequence(FaultSequence(starts, launcher, loader, disk=not no_disk), random.Random(launcher))
    assert outcome["ok"], json.dumps(outcome, indent=1)
    stopped = [start[-1] == "driver SIGTERM" for start in starts]
    assert [line.startswith("stopped: checkpoint") for line in outcome["last_lines"]] == stopped


def test_every_kind_of_fault_is_tested() -> None:
    assert {kind for starts in STARTS.values() for start in starts for kind in start} | ELSEWHERE == set(KINDS)
