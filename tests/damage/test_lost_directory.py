"""A run directory that is removed or replaced while its run trains: one line, and nothing is created again."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from distcond import train
from distcond.atomic_io import atomic_write_text, keep_present, make_folder
from distcond.errors import FolderLost
from support.waiting import wait_until


def remove(run: Path) -> None:
    shutil.rmtree(run, ignore_errors=True)


def rename(run: Path) -> None:
    run.rename(run.with_name("away"))


def replace(run: Path) -> None:
    rename(run)
    run.mkdir()


@pytest.mark.parametrize("lose", [remove, rename, replace])
def test_lost_run_directory_ends_in_one_line(
    tmp_path: Path, digits_cache: Path, capsys: pytest.CaptureFixture[str], lose: Callable[[Path], None]
) -> None:
    def interfere() -> None:
        wait_until(lambda: list(tmp_path.glob("runs/*/history.jsonl")), "the first epoch")
        lose(next(tmp_path.glob("runs/*/history.jsonl")).parent)

    thread = threading.Thread(target=interfere, daemon=True)
    thread.start()
    words = [
        "float_digits", "model.widths=4,4,8", "data.loader=memory", f"data.cache_dir={digits_cache}", "launch=local",
        f"run_root={tmp_path / 'runs'}", "epochs=400", "attack.num_steps=1", "eval.every=0", "eval.sentinel=off",
        "train_examples=100", "batch_size=32",
    ]  # fmt: skip
    assert train.main(words) == 1
    thread.join()
    failed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1 and "is not accessible any more" in failed[0]
    left = [path for path in (tmp_path / "runs").rglob("*") if "away" not in path.parts and path.is_file()]
    assert left == []


def test_guarded_folder_is_not_created_again(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other" / "file"
    run.mkdir()
    with keep_present(run):
        atomic_write_text(run / "results" / "a", "a")
        shutil.rmtree(run)
        for write in (lambda: atomic_write_text(run / "b", "b"), lambda: make_folder(run / "checkpoints" / "c")):
            with pytest.raises(FolderLost, match="is not there any more"):
                write()
        atomic_write_text(other, "c")
        assert not run.exists()
        run.mkdir()
        (tmp_path / "new").mkdir()  # or the new directory could get the number of the old one
        with pytest.raises(FolderLost):
            atomic_write_text(run / "b", "b")
    atomic_write_text(run / "b", "b")
