"""The job command refuses before it looks for a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.ray_job import main
from distcond.config.command_line import guarded
from support.processes import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster is known."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a call that ends with status 2 writes to standard error."""
    with pytest.raises(SystemExit) as end:
        guarded(lambda: main(words))
    assert end.value.code == 2
    return capsys.readouterr().err


def test_bad_setting_submits_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    said = refusal(capsys, "attack.epsilon=-1")
    assert said.startswith("error: attack.epsilon=-1: ") and said.count("\n") == 1


def test_no_cluster_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    last = refusal(capsys, "epochs=1").strip().splitlines()[-1]
    assert last.startswith("error: ") and "RAY_API_SERVER_ADDRESS" in last


def test_help_says_where_it_submits_to() -> None:
    found = run([sys.executable, "-m", "cluster.ray_job", "--help"], cwd=ROOT, stderr=subprocess.DEVNULL)
    assert found.status == 0 and "RAY_API_SERVER_ADDRESS" in found.output
