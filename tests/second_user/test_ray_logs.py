"""Logs of Ray that a failed run keeps."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from distcond.launch.ray.trainer import copy_with_usual_modes
from support import second_user

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600)])
def test_kept_logs_follow_the_umask(open_path: Path, umask: int, folder: int, file: int) -> None:
    logs, copy = open_path / "logs", open_path / "run" / "ray-logs"
    (logs / "old").mkdir(parents=True)
    for name in ("a.out", "old/b.out"):
        (logs / name).write_text("text")
        (logs / name).chmod(0o666)
    for name in ("old", "."):
        (logs / name).chmod(0o777)
    (logs / "gone").symlink_to("missing")
    before = os.umask(umask)
    try:
        copy_with_usual_modes(logs, copy)
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (copy, *copy.rglob("*"))}
    assert found == {"ray-logs": folder, "old": folder, "a.out": file, "b.out": file}
    assert second_user.do((copy / "old" / "mine").touch) == "PermissionError"
