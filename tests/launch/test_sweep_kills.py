"""A sweep whose driver, trial or whole machine is killed completes, and trains nothing twice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from support import processes, sweeps

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(3600)]

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sweep_kills.py"


def test_killed_sweeps_complete_without_repeating_epochs(place: Any) -> None:
    command = [sys.executable, str(SCRIPT), str(place.path), "--kills", "3"]
    done = processes.run(command, cwd=place.path, env=place.environment, limit=4 * sweeps.LIMIT)
    log = (place.path / "log.txt").read_text()
    assert done.status == 0, done.output + log
    assert "3 of 3 good" in done.output
