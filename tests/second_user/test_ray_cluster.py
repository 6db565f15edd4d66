"""What a second user could do to a Ray cluster on the same machine, and to the driver that looks for it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from cluster.ray_job import session_directories
from distcond.errors import ConfigError
from distcond.launch.ray.shared_machine import check_found_address, check_token_file, node_users, warn_if_open
from support import second_user
from support.waiting import wait_until

SLEEP = "import time; time.sleep(600)"


def test_found_cluster_of_another_user_is_refused() -> None:
    fake = ["-c", SLEEP, "--gcs-address=127.0.0.1:7"]
    with second_user.start([sys.executable, *fake]):
        wait_until(lambda: node_users("127.0.0.1:7") - {0}, "the other user's process")
        time.sleep(0.1)  # `unshare` and `sh`, which still were root's, are gone
        with pytest.raises(ConfigError, match=rf"RAY_ADDRESS=auto: .*belongs to user {second_user.NUMBER}"):
            check_found_address("127.0.0.1:7")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=auto: .*no process"):
        check_found_address("192.0.2.1:6379")  # as the other user wrote it into Ray's file


@pytest.mark.parametrize(
    ("mode", "parent", "outcome"),
    [
        (0o600, 0o755, ""),
        (0o666, 0o700, ""),
        (0o666, 0o755, "refused"),
        (0o600, 0o777, "refused"),
        (0o644, 0o755, "warned"),
    ],
)
def test_token_that_others_may_write_is_refused(
    mode: int, parent: int, outcome: str, open_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (open_path / "a").mkdir()
    (open_path / "a" / "token").touch()
    (open_path / "a" / "token").chmod(mode)
    (open_path / "a").chmod(parent)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(open_path / "a" / "token"))
    if outcome == "refused":
        with pytest.raises(ConfigError, match=r"RAY_AUTH_TOKEN_PATH=.*writable by every user"):
            check_token_file()
    else:
        check_token_file()
    assert ("RAY_AUTH_TOKEN_PATH" in caplog.text) == (outcome == "warned")


def test_open_session_warns_and_private_one_does_not(
    open_path: Path, shared_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = open_path / "ray" / "session_1"
    session.mkdir(parents=True)
    for folder in (session, session.parent):
        folder.chmod(0o777)  # as Ray does
    assert second_user.do((session / "package").touch) == ""
    warn_if_open(session)
    assert "open to other users" in caplog.text and "--temp-dir" in caplog.text
    caplog.clear()
    open_path.chmod(0o700)
    assert second_user.do((session / "package").unlink) == "PermissionError"
    warn_if_open(session)
    assert caplog.text == ""


def test_session_is_found_by_its_processes() -> None:
    with second_user.start([sys.executable, "-c", SLEEP, "--session-dir=/x/ray/session_7/", "--log=/y/session_7"]):
        found = {Path("/x/ray/session_7"), Path("/y/session_7")}
        wait_until(lambda: session_directories("session_7") == found, "the process")
    assert session_directories("") == set()
