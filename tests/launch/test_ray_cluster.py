"""A local Ray cluster: private, on loopback only, and removed afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distcond.errors import ConfigError
from distcond.launch.ray.cluster import _start_ray, uses_existing_cluster
from distcond.launch.ray.local_auth import env_vars, private_directory
from distcond.runs.failures import LaunchFailed
from support import processes
from support.leftovers import listening, processes_with
from support.waiting import wait_until

HERE = Path(__file__).parent

#: 127.0.0.1, the same as IPv6, and ::1, as /proc writes them on a little-endian machine.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_local_cluster_is_private_and_leaves_nothing(place: Any) -> None:
    with _start_holder(place, RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN="of another cluster") as holder:
        holder.write("\n")
        wait_until(lambda: "\n" in holder.output, "the Ray", process=holder)
        facts = json.loads(holder.output)
        assert facts["own"] and facts["cores"] >= 1
        _check_private(Path(facts["token"]))
        assert listening(list(processes_with(place.mark))) <= LOOPBACK
        token = Path(facts["token"]).read_text()
        assert _call_client(place, facts["address"], token) == "OK UNAUTHENTICATED UNAUTHENTICATED"
        assert holder.wait() == 0
    assert json.loads(holder.output.splitlines()[-1]) == {"error": "the end", "changed": []}
    assert not processes_with(place.mark)
    assert not Path(facts["token"]).parent.exists()


@pytest.mark.ray
@pytest.mark.parametrize(
    ("slow", "error", "tries"),
    [
        (2, "The current node timed out during startup. This could happen", 3),
        (3, "The current node timed out during startup. This could happen", 3),
        (1, "no port is free", 1),
    ],
)
def test_slow_start_of_ray_is_retried(
    slow: int, error: str, tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    addresses: list[str] = []

    def init(**arguments: Any) -> Any:
        addresses.append(arguments["address"])
        if len(addresses) <= slow:
            raise Exception(error)
        return SimpleNamespace(dashboard_url="")

    monkeypatch.setattr(ray, "init", init)
    with nullcontext() if slow < tries else pytest.raises(LaunchFailed, match=error):
        _start_ray(tmp_path / "token", address="local")
    assert addresses == ["local"] * tries


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_sigterm_while_ray_starts_leaves_nothing(place: Any) -> None:
    with _start_holder(place) as holder:
        wait_until(lambda: "raylet" in processes_with(place.mark).values(), "the raylet", process=holder)
        holder.send_signal(signal.SIGTERM)
        assert (holder.wait(), holder.output) == (128 + signal.SIGTERM, "")
    assert not processes_with(place.mark)
    assert not list(place.short.glob("distcond-*"))


def test_only_directories_of_killed_drivers_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    short = Path(tempfile.mkdtemp(prefix="d-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    abandoned = short / "distcond-abandoned"
    (abandoned / "r").mkdir(parents=True)
    (abandoned / "owner").touch(mode=0o600)
    try:
        with private_directory() as one, private_directory() as other:
            assert sorted(short.iterdir()) == sorted([one, other])
            _check_private(one / "token")
        assert list(short.iterdir()) == []
    finally:
        shutil.rmtree(short)


@pytest.mark.parametrize(("address", "joined"), [(None, False), ("", False), ("local", False), ("10.0.0.1:6379", True)])
def test_ray_address_selects_existing_cluster(
    address: str | None, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert uses_existing_cluster() == joined


def test_ray_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ConfigError, match=r"^RAY_ADDRESS=ray://head:10001: .*HOST:PORT"):
        uses_existing_cluster()


def _start_holder(place: Any, **variables: str) -> processes.Process:
    command = [sys.executable, str(HERE / "hold_cluster.py")]
    environment = place.environment | variables
    return processes.start(command, cwd=place.path, env=environment, stderr=subprocess.DEVNULL)


def _check_private(token: Path) -> None:
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert len(token.read_text()) == 64
    assert token.stat().st_uid == os.getuid()


def _call_client(place: Any, *words: str) -> str:
    done = processes.run([sys.executable, str(HERE / "client.py"), *words], env=place.environment)
    assert done.status == 0, done.output
    return done.output.strip().splitlines()[-1]


def test_environment_variables_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTCOND_A", "1")
    monkeypatch.delenv("DISTCOND_B", raising=False)
    with env_vars({"DISTCOND_A": None, "DISTCOND_B": "2"}):
        assert "DISTCOND_A" not in os.environ and os.environ["DISTCOND_B"] == "2"
    assert os.environ["DISTCOND_A"] == "1" and "DISTCOND_B" not in os.environ
