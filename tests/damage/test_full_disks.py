"""A full disk wherever files are written: one line with place and space, and the same command finishes later."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from distcond import evaluate, report, train
from distcond.config.command_line import run_cli
from distcond.disk_space import as_disk_full, name_full_disk
from distcond.errors import DiskFull
from distcond.results.store import read_rows
from support.many_runs import write_finished_runs

LINE = re.compile(r"disk full: \S+: [\d.e-]+ MB free of [\d.]+ MB(, [\d.e-]+ MB needed)?; free some space")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`mount("4m")`: a disk of that size."""
    disks = list[Path]()

    def mounted(size: str) -> Path:
        disk = tmp_path / f"disk-{size}"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs to mount a tmpfs")
        disks.append(disk)
        return disk

    yield mounted
    for disk in disks:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextmanager
def filled(disk: Path, free: int = 0) -> Iterator[None]:
    """Within the block, the disk has `free` bytes left."""
    filler = disk / "filler"
    filler.write_bytes(b"0" * max(0, shutil.disk_usage(disk).free - free))
    yield
    filler.unlink()


def failure(main: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> str:
    """The line of a command that failed on a full disk."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run_cli(main)
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if LINE.search(line)]
    assert end.value.code in (1, 2) and len(lines) == 1 and "Traceback" not in error, error
    return lines[0]


@pytest.fixture
def words(digits_cache: Path) -> list[str]:
    return [
        "float_digits", "model.widths=4,4,8", "data.loader=memory", f"data.cache_dir={digits_cache}", "launch=local",
        "train_examples=100", "batch_size=32", "epochs=2", "attack.num_steps=1", "eval.val_examples=20",
        "eval.val_steps=1", "eval.test_examples=20", "eval.train_examples=0", "eval.attack.num_steps=1",
        "eval.lam_grid=0,1", "eval.batch_size=20", "eval.sentinel=off",
    ]  # fmt: skip


def test_training_names_the_disk_and_resumes(
    mount: Callable[[str], Path], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    disk = mount("40m")
    words = [*words, f"run_root={disk / 'runs'}"]
    with filled(disk, free=60_000):
        failure(lambda: train.main(words), capsys)
    assert train.main(words) == 0


def test_cache_names_the_disk_and_the_space_needed(
    mount: Callable[[str], Path], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = mount("64k")
    words = [*words, f"data.cache_dir={disk}", f"run_root={tmp_path / 'runs'}"]
    assert "MB needed" in failure(lambda: train.main(words), capsys)
    assert not (tmp_path / "runs").exists()


def test_evaluation_keeps_what_it_counted(
    mount: Callable[[str], Path], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    disk = mount("40m")
    assert train.main([*words, f"run_root={disk / 'runs'}"]) == 0
    (run,) = (disk / "runs").iterdir()
    command = [str(run), "attack=fgsm", "eval.test_examples=200", "eval.batch_size=10"]
    before = set(run.glob("outcomes/*/*.npz"))
    with filled(disk, free=60_000):
        failure(lambda: evaluate.main(command), capsys)
        kept = set(run.glob("outcomes/*/*.npz")) - before
    assert evaluate.main(command) == 0
    assert 0 < len(kept) < len(set(run.glob("outcomes/*/*.npz")) - before)
    assert {row.num_examples for row in read_rows(run) if row.attack == "fgsm"} == {200}


def test_report_prints_before_its_figure_fails(
    mount: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    disk = mount("4m")
    write_finished_runs(disk, 2)
    with filled(disk, free=20_000):
        with pytest.raises(SystemExit):
            run_cli(lambda: report.main([str(disk)]))
        found = capsys.readouterr()
        assert "operating points under" in found.out and LINE.search(found.err)
    assert report.main([str(disk)]) == 0


def test_silent_writer_counts_by_the_space_needed(mount: Callable[[str], Path]) -> None:
    disk = mount("8m")
    (disk / "some").write_bytes(b"0" * (4 << 20))  # 4 MB are free: too few, but not few
    error = RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
    assert as_disk_full(error, disk) is None
    assert "5.24 MB needed" in str(as_disk_full(error, disk, 5 << 20))
    with pytest.raises(DiskFull, match="MB needed"), name_full_disk(disk, 6 << 20):
        torch.save(torch.zeros(6 << 18), disk / "state.pt")
