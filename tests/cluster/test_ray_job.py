"""The job command refuses before it looks for a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def submit(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | variables
    command = [sys.executable, "-m", "cluster.ray_job", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_bad_setting_submits_nothing() -> None:
    found = submit("attack.epsilon=-1", RAY_ADDRESS="127.0.0.1:1")
    assert found.returncode == 2
    assert found.stderr == "error: attack.epsilon=-1: must be at least 0\n"


def test_no_cluster_is_one_line() -> None:
    found = submit("epochs=1", RAY_API_SERVER_ADDRESS="http://127.0.0.1:1")
    assert found.returncode == 2, found.stderr
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("error: no Ray cluster to submit to (")
    assert "RAY_API_SERVER_ADDRESS" in last


def test_help_says_where_it_submits_to() -> None:
    found = submit("--help")
    assert found.returncode == 0 and found.stdout.startswith("Submit this checkout as a Ray job")
    assert "RAY_API_SERVER_ADDRESS" in found.stdout
