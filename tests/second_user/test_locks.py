"""Locks and files against a second user, who may read or even write to the directory."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from cluster.slurm.task import hold_slot
from distcond.atomic_io import atomic_write_text, file_lock
from distcond.config.overrides import resolve
from distcond.runs.run_dir import RunDir
from support import second_user


def lock(path: Path) -> None:
    """Take the lock of a file, as its reader."""
    fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("made_with", [0o644, 0o664, None])
def test_reader_cannot_lock_a_run(open_path: Path, made_with: int | None) -> None:
    run = RunDir(open_path / "run")
    if made_with:  # by an earlier version
        run.path.mkdir()
        (run.path / ".lock").touch()
        (run.path / ".lock").chmod(made_with)
        assert second_user.do(lambda: lock(run.path / ".lock")) == ""
    with run.begin(resolve("float_digits", {})):
        pass
    assert second_user.do(lambda: lock(run.path / ".lock")) == "PermissionError"


def test_reader_cannot_take_a_slot(open_path: Path) -> None:
    with hold_slot(open_path / "slots", 1, lambda: True) as number:
        assert number == 0
    assert second_user.do(lambda: lock(open_path / "slots" / "0")) == "PermissionError"


def test_reader_cannot_lock_a_cache(open_path: Path) -> None:
    with file_lock(open_path / "lock"):
        assert second_user.do(lambda: lock(open_path / "lock")) == "PermissionError"


def test_who_may_write_may_lock(open_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with file_lock(open_path / "lock"):
            pass
    finally:
        os.umask(before)
    os.chown(open_path / "lock", 0, second_user.NUMBER)  # as in a directory of the group
    assert second_user.do(lambda: file_lock(open_path / "lock").__enter__()) == ""


def test_lock_does_not_follow_a_link(shared_path: Path, open_path: Path) -> None:
    (open_path / "precious").write_text("text")
    second_user.do(lambda: (shared_path / "lock").symlink_to(open_path / "precious"))
    with pytest.raises(OSError, match=r"symbolic links|denied"), file_lock(shared_path / "lock"):
        pass
    assert (open_path / "precious").read_text() == "text"


def test_lock_does_not_wait_for_a_pipe(shared_path: Path) -> None:
    second_user.do(lambda: os.mkfifo(shared_path / "lock", 0o666))
    with pytest.raises(OSError, match="No such device"), file_lock(shared_path / "lock"):
        pass


def test_written_file_does_not_follow_a_foreseen_link(shared_path: Path, open_path: Path) -> None:
    (open_path / "precious").write_text("text")
    foreseen = f".result.json.{socket.gethostname()}-{os.getpid()}.tmp"
    second_user.do(lambda: (shared_path / foreseen).symlink_to(open_path / "precious"))
    atomic_write_text(shared_path / "result.json", "{}")
    assert ((open_path / "precious").read_text(), (shared_path / "result.json").read_text()) == ("text", "{}")
