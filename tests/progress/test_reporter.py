"""ProgressReporter and its displays, from the files of a run."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distcond.atomic_io import write_json
from distcond.progress import reporter
from distcond.progress.display import BarDisplay, LineDisplay, format_epoch, make_display
from distcond.progress.reporter import ProgressReporter, report_progress
from distcond.results import history

VAL = [
    {"lam": 1.0, "sa": 0.939, "ra": 0.667},
    {"lam": 0.0, "sa": 0.961, "ra": 0.511},
    {"lam": 0.5, "sa": 0.9, "ra": 0.6},
]


def record(epoch: int, **values: Any) -> dict[str, Any]:
    return {
        "epoch": epoch, "train_loss": 1.0512, "train_sa": 0.8651, "train_ra": 0.405, "lr": 0.0991,
        "images_per_second": 630.2, **values,
    }  # fmt: skip


@pytest.fixture
def seen(tmp_path: Path) -> Callable[[], list[str]]:
    """`seen()`: the new lines that a reporter of `tmp_path` writes. The reporter starts at the first call."""
    out, state = io.StringIO(), dict[str, Any]()

    def lines() -> list[str]:
        state.setdefault("reporter", ProgressReporter(tmp_path, LineDisplay(out))).report()
        text = out.getvalue()
        out.seek(0)
        out.truncate()
        return text.splitlines()

    return lines


def update(run: Path, stage: str, **values: Any) -> None:
    write_json(run / "progress.json", {"stage": stage, "epochs": 3, "steps": 10, **values})


def begin(run: Path, attempt: int) -> None:
    write_json(run / "attempt.json", {"attempt": attempt})


def test_epoch_line_lists_the_recorded_values() -> None:
    line = "epoch 3/30  loss 1.05  clean 86.5 %  adversarial 40.5 %  lr 0.099  630 img/s"
    assert format_epoch(record(3), 30) == line
    assert format_epoch(record(3, val=VAL), 30) == f"{line}  val SA 96.1/93.9 RA 51.1/66.7 at lam 0/1"
    assert format_epoch(record(3, val=VAL[:1]), 30).endswith("val SA 93.9 RA 66.7 at lam 1")
    widths = [{**point, "width": width} for point in VAL for width in (0, 1)]
    assert format_epoch(record(3, val=widths), 30).endswith("val SA 96.1/93.9 RA 51.1/66.7 at lam 0/1")
    parts = {"data": 0.004, "attack": 0.712, "passes": 0.2, "reduction": 0.03, "rest": 0.054}
    assert format_epoch(record(3, shares=parts), 30) == line  # shown on the bar only
    assert format_epoch({"epoch": 1, "train_loss": None, "train_sa": None, "val": []}, 30) == "epoch 1/30"


def test_every_epoch_gets_one_line(tmp_path: Path, seen: Callable[[], list[str]]) -> None:
    assert seen() == []
    begin(tmp_path, 0)
    update(tmp_path, "train", epoch=0, step=3, loss=1.0, images_per_second=9.0)
    assert seen() == []
    history.append(tmp_path, record(1))
    history.append(tmp_path, record(2))
    assert [line.split("  ")[0] for line in seen()] == ["epoch 1/3", "epoch 2/3"]
    assert seen() == []
    history.append(tmp_path, record(3))  # progress.json is older: the run was killed here
    assert [line.split("  ")[0] for line in seen()] == ["epoch 3/3"]


def test_resumed_run_shows_new_and_repeated_epochs(tmp_path: Path, seen: Callable[[], list[str]]) -> None:
    begin(tmp_path, 0)
    update(tmp_path, "train", epoch=2, step=3)
    history.append(tmp_path, record(1))
    history.append(tmp_path, record(2))
    assert seen() == []
    begin(tmp_path, 1)
    assert seen() == []
    history.append(tmp_path, record(2, images_per_second=100.0))  # repeated: the checkpoint was of epoch 1
    history.append(tmp_path, record(3))
    assert [line.split("  ")[0] for line in seen()] == ["epoch 2/3", "epoch 3/3"]


def test_restart_is_shown_and_no_epoch_twice(tmp_path: Path, seen: Callable[[], list[str]]) -> None:
    begin(tmp_path, 4)  # from an earlier start
    assert seen() == []
    begin(tmp_path, 5)
    update(tmp_path, "train", epoch=0)
    history.append(tmp_path, record(1))
    assert len(seen()) == 1
    failures = tmp_path / "failures"
    failures.mkdir()
    (failures / "attempt-05-worker-0000.txt").write_text("Traceback\nRuntimeError: [gloo] Connection closed by peer\n")
    begin(tmp_path, 6)
    again = "workers restarted from the last checkpoint"
    assert seen() == [f"attempt 6: {again} (a worker died without an exception)"]
    history.append(tmp_path, record(1, images_per_second=100.0))
    assert seen() == []
    (failures / "attempt-06-worker-0001.txt").write_text("Traceback\n\nOSError: the disk is full\n")
    begin(tmp_path, 7)
    assert seen() == [f"attempt 7: {again} (OSError: the disk is full)"]


def test_epoch_line_adds_time_and_storage_error(tmp_path: Path, seen: Callable[[], list[str]]) -> None:
    seen()
    update(tmp_path, "train", epoch=0, step=3, seconds_left=600.0, storage="s3://x: not reachable")
    seen()
    history.append(tmp_path, record(1))
    first, second = seen()
    assert first.startswith("epoch 1/3")
    assert first.endswith("10 min left")
    assert second == "s3://x: not reachable"


def test_only_long_stages_get_a_line(
    tmp_path: Path, seen: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen()
    update(tmp_path, "validate", epoch=0)
    assert seen() == []
    monkeypatch.setattr(reporter, "BRIEF_SECONDS", 0.0)
    assert seen() == ["validating"]
    assert seen() == []
    update(tmp_path, "test", epoch=3)
    assert seen() == ["testing the best and the last checkpoint"]
    update(tmp_path, "finished", epoch=3)
    assert seen() == []


def test_last_epoch_is_shown_before_leaving(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with report_progress(tmp_path):
        update(tmp_path, "finished", epoch=3)
        history.append(tmp_path, record(3))
    assert capsys.readouterr().err.startswith("epoch 3/3")
    with report_progress(tmp_path, active=False):
        history.append(tmp_path, record(4))
    assert capsys.readouterr().err == ""


def test_unreadable_files_are_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with report_progress(tmp_path):
        (tmp_path / "progress.json").write_text("{")
        (tmp_path / "attempt.json").mkdir()


def test_bar_counts_all_steps_of_the_run() -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    out = io.StringIO()
    bar = BarDisplay(tqdm(total=1, bar_format="{desc}|{n_fmt}/{total_fmt}|{postfix}", file=out))
    size = {"epochs": 3, "steps": 10}
    bar.update({"stage": "train", **size, "epoch": 1, "step": 4, "loss": 1.25, "images_per_second": 630.0,
            "shares": {"attack": 0.7, "passes": 0.3}, "seconds_left": 90.0})  # fmt: skip
    assert out.getvalue().split("\r")[-1].strip() == (
        "epoch 2/3|15/30|, loss 1.25  630 img/s  90 s left  attack 70% passes 30%"
    )
    bar.epoch(record(2, val=VAL), 3)
    bar.epoch(record(3), 3)
    bar.update({"stage": "validate", **size, "epoch": 2})
    shown = "epoch 3/3 validate|20/30|, val SA 96.1/93.9 RA 51.1/66.7 at lam 0/1"
    assert out.getvalue().split("\r")[-1].strip() == shown
    bar.update({"stage": "test", **size, "epoch": 3})
    assert "test|30/30|" in out.getvalue()
    bar.close()


def test_bar_only_on_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_display(), LineDisplay)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown = make_display()
    assert isinstance(shown, BarDisplay)
    shown.close()
