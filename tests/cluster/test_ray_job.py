"""The Ray job command: what it refuses, and what it names in a checkout that is too large."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.ray_job import largest_files, main
from distcond.config.command_line import run_cli
from support.processes import run


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster in the environment."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Standard error of a call that ends with status 2."""
    with pytest.raises(SystemExit) as end:
        run_cli(lambda: main(args))
    assert end.value.code == 2
    return capsys.readouterr().err


def test_bad_setting_submits_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    error = refusal(capsys, "attack.epsilon=-1")
    assert error.startswith("error: attack.epsilon=-1: ") and error.count("\n") == 1


def test_no_cluster_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    last = refusal(capsys, "epochs=1").strip().splitlines()[-1]
    assert last.startswith("error: ") and "RAY_API_SERVER_ADDRESS" in last


@pytest.mark.parametrize("checkout", [True, False])
def test_largest_shipped_files_come_first(tmp_path: Path, checkout: bool) -> None:
    for name, size in {"data/big.bin": 3_000, "small.py": 10, "ignored.pt": 9_000, "new.npz": 2_000}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"0" * size)
    if checkout:
        (tmp_path / ".gitignore").write_text("*.pt\n")
        for args in (["init", "-q"], ["add", "small.py"]):
            assert run(["git", *args], cwd=tmp_path).status == 0
    found = largest_files(tmp_path, 2)
    assert found == (
        [("data/big.bin", 3_000), ("new.npz", 2_000)] if checkout else [("ignored.pt", 9_000), ("data/big.bin", 3_000)]
    )


class Full(BaseHTTPRequestHandler):
    """A stand-in for a cluster's job server: it has no package and refuses to take one."""

    def do_GET(self) -> None:
        body = json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""}).encode()
        self.answer(200 if self.path == "/api/version" else 404, body)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(500, b"ValueError: Package size (600.00MiB) exceeds the maximum size of 512.00MiB.")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing to standard error."""


def test_too_large_checkout_names_its_largest_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.bin").write_bytes(b"0" * 2_000_000)
    monkeypatch.chdir(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), Full) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{server.server_port}")
        last = refusal(capsys, "epochs=1").strip().splitlines()[-1]
        server.shutdown()
    assert last.startswith("error: ") and "weights.bin (2 MB)" in last and ".rayignore" in last


def test_help_names_the_cluster_variables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "RAY_API_SERVER_ADDRESS" in capsys.readouterr().out
