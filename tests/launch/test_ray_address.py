"""A wrong RAY_ADDRESS is refused within seconds, before a run directory is created."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distcond import train
from distcond.errors import ConfigError
from distcond.launch.ray import address
from distcond.launch.ray.address import require_answer
from support.installed import needs
from support.processes import LIMIT

needs("ray", "Ray is not installed")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Short timeouts, and no other cluster: `auto` searches the temporary folder and all processes."""
    monkeypatch.setattr(address, "PORT_SECONDS", 1.0)
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    require_answer.cache_clear()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def refusal(address: str) -> str:
    """The one-line message with which an address is refused."""
    with pytest.raises(ConfigError, match="RAY_ADDRESS=") as raised:
        require_answer(address)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "127.0.0.1:http", "no-such-host.invalid:6379", "x:0"])
def test_address_without_ray_is_refused(address: str) -> None:
    assert f"RAY_ADDRESS={address}: no Ray cluster there (" in refusal(address)


def test_auto_without_ray_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)  # clusters of other tests
    assert "RAY_ADDRESS=auto: no Ray cluster there (" in refusal("auto")


def test_silent_port_is_refused_in_time(
    silent: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "SECONDS", 1.0)
    began = time.monotonic()
    assert "no answer from a Ray cluster within 1 s" in refusal(silent)
    assert time.monotonic() - began < 30
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [None, ""])
def test_missing_token_is_refused(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    from distcond.launch.ray.local_auth import reload_ray_auth

    reload_ray_auth()
    try:
        assert "RAY_AUTH_TOKEN_PATH" in refusal(silent)
    finally:
        monkeypatch.undo()
        reload_ray_auth()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_command_refuses_before_a_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=127\.0\.0\.1:1"):
        train.main([f"launch.workers={workers}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.cluster
def test_sigterm_interrupts_the_check() -> None:
    """Ray itself would try for 15 minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        script = f"from distcond.launch.ray import address as r; r.SECONDS = 600.0; r.require_answer({address!r})"
        with subprocess.Popen([sys.executable, "-c", script]) as process:
            probe, _ = server.accept()
            request, _ = server.accept()  # from Ray
            with probe, request:
                process.terminate()
                assert process.wait(30) == -signal.SIGTERM
