"""A full disk while a checkpoint is written: one line with the free space, and no partial files."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from distcond.disk_space import as_disk_full
from distcond.distributed.world import World
from distcond.errors import DiskFull
from distcond.runs import checkpoint
from distcond.runs.checkpoint import CheckpointStep
from distcond.runs.failures import WorkerError, capture_worker_error


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Half a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def save(disk: Path, epoch: int, features: int) -> Path:
    return checkpoint.save_checkpoint(
        disk / "checkpoints", CheckpointStep(epoch), World(), nn.Linear(features, 100), {}, {}
    )


def test_full_disk_keeps_existing_checkpoints(small_disk: Path) -> None:
    first = save(small_disk, 1, 100)
    with pytest.raises(DiskFull, match=rf"{small_disk}.*: [\d.]+ MB free of 0.524 MB"):
        save(small_disk, 2, 2000)
    assert [entry.name for entry in first.parent.iterdir()] == ["epoch-0001"]
    checkpoint.load_shared(first)


@pytest.mark.parametrize("room", [True, False])
def test_traceback_is_named_only_if_written(small_disk: Path, room: bool) -> None:
    if not room:
        (small_disk / "failures").write_text("no folder can be made here")
    with pytest.raises(WorkerError) as failed, capture_worker_error(small_disk, 0, 0):
        save(small_disk, 1, 2000)
    error = failed.value
    assert error.kind == "deterministic" and "MB free of" in error.line and str(small_disk) in error.line
    assert Path(error.file).is_file() is room
    assert ("traceback in" in error.where) is room


def test_other_files_name_the_full_disk_too(small_disk: Path) -> None:
    with pytest.raises(WorkerError, match=r"MB free of") as failed, capture_worker_error(small_disk, 0, 0):
        (small_disk / "history.jsonl").write_bytes(b"0" * (1 << 20))
    assert failed.value.kind == "deterministic"


def test_message_names_the_disk_that_is_full(small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "fills").write_bytes(b"0" * (500 << 10))
    error = OSError(errno.ENOSPC, "No space left on device", str(small_disk / "table"))
    assert str(as_disk_full(error, tmp_path)).startswith(f"disk full: {small_disk}: ")


def test_other_quota_is_not_called_full(tmp_path: Path) -> None:
    assert "disk full" not in str(as_disk_full(OSError(errno.ENOSPC, "No space left on device"), tmp_path))
