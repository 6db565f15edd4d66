from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from distcond.atomic_io import atomic_write, file_lock


def leftover(path: Path, host: str, pid: int) -> Path:
    aside = path.with_name(f".{path.name}.{host}-{pid}.tmp")
    aside.write_text("half")
    return aside


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with atomic_write(path) as aside:
        aside.write_text("content")
        assert not path.exists()
        assert aside.name.startswith(".")
    assert path.read_text() == "content"
    assert os.listdir(path.parent) == ["file"]


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as aside:
            aside.write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    path, here = tmp_path / "file", socket.gethostname()
    dead = leftover(path, here, dead_pid())
    kept = [leftover(path, here, os.getppid()), leftover(path, "other-host", dead_pid())]
    kept.append(leftover(tmp_path / "other", here, dead_pid()))
    with atomic_write(path) as aside:
        aside.touch()
    assert not dead.exists()
    assert all(other.exists() for other in kept)


def test_lock_is_released_when_its_holder_dies(tmp_path: Path) -> None:
    code = """
import os, sys, time
from pathlib import Path
from distcond.atomic_io import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read(1)
    time.sleep(0.3)
    Path(sys.argv[1] + ".released").touch()
    os.kill(os.getpid(), 9)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    process.stdin.write(b"x")
    process.stdin.flush()
    with file_lock(tmp_path / "lock"):
        assert (tmp_path / "lock.released").exists()
    process.communicate()
