"""A RAY_ADDRESS that leads nowhere is one line in seconds, and leaves no run directory."""

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
    """Little patience, and no Ray of others: `auto` looks for one in the temporary folder and among processes."""
    monkeypatch.setattr(address, "PORT_SECONDS", 1.0)
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    require_answer.cache_clear()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def refusal(address: str) -> str:
    with pytest.raises(ConfigError, match="RAY_ADDRESS=") as raised:
        require_answer(address)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "127.0.0.1:http", "no-such-host.invalid:6379", "x:0"])
def test_address_without_ray_is_refused(address: str) -> None:
    assert f"RAY_ADDRESS={address}: no Ray is there (" in refusal(address)


def test_auto_without_ray_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)  # other tests' own
    assert "RAY_ADDRESS=auto: no Ray is there (" in refusal("auto")


def test_silent_port_is_refused_in_time(
    silent: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "SECONDS", 1.0)
    began = time.monotonic()
    assert "no Ray answers there within 1 s" in refusal(silent)
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
    from distcond.launch.ray.local_auth import _reread

    _reread()
    try:
        assert "RAY_AUTH_TOKEN_PATH" in refusal(silent)
    finally:
        monkeypatch.undo()
        _reread()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_command_refuses_before_a_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=127\.0\.0\.1:1"):
        train.main([f"launch.workers={workers}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.cluster
def test_sigterm_is_heard_while_ray_is_asked() -> None:
    """Ray itself would go on for a quarter of an hour."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        script = f"from distcond.launch.ray import address as r; r.SECONDS = 600.0; r.require_answer({address!r})"
        with subprocess.Popen([sys.executable, "-c", script]) as process:
            knock, _ = server.accept()
            asked, _ = server.accept()  # by Ray
            with knock, asked:
                process.terminate()
                assert process.wait(30) == -signal.SIGTERM
