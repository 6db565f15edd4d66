"""ProgressWriter: the content of progress.json while a run trains and evaluates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distcond.training import progress
from distcond.training.eta import EtaEstimator
from distcond.training.progress import ProgressWriter, SweepProgress, read_progress


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests advance."""
    at = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: at[0], time=lambda: 0.0))
    return at


def test_no_progress_before_the_first_write(tmp_path):
    assert read_progress(tmp_path) is None


def test_sweep_writes_its_share_once_a_second(tmp_path: Path, now: list[float]) -> None:
    meter = SweepProgress(
        ProgressWriter(tmp_path, epochs=3, steps=7, batch_size=10, active=True), "test", epoch=2, rows=200
    )
    began = {"stage": "test", "epochs": 3, "steps": 7, "time": 0.0, "epoch": 2}
    assert read_progress(tmp_path) == began
    meter(50)
    assert read_progress(tmp_path) == began  # not a second yet
    now[0] += 1.1
    meter(30)
    assert read_progress(tmp_path) == began | {"share": 0.4}
    meter(60)
    assert read_progress(tmp_path) == began | {"share": 0.4}
    now[0] += 1.1
    meter(100)
    assert read_progress(tmp_path) == began | {"share": 1.0}  # at most 1


def test_rank_without_rows_has_a_share(tmp_path: Path, now: list[float]) -> None:
    meter = SweepProgress(ProgressWriter(tmp_path, 1, 1, 1, active=True), "validate", epoch=1, rows=0)
    now[0] += 2
    meter(0)
    record = read_progress(tmp_path)
    assert record is not None and record["share"] == 0.0


def test_speed_is_measured_since_the_last_write(tmp_path: Path, now: list[float]) -> None:
    writer = ProgressWriter(tmp_path, epochs=2, steps=9, batch_size=10, active=True)
    writer.step(0, 1, torch.tensor(3.0))
    assert read_progress(tmp_path) is None
    now[0] += 2
    writer.step(0, 2, torch.tensor(2.5))
    record = read_progress(tmp_path)
    assert record == {
        "stage": "train", "epochs": 2, "steps": 9, "time": 0.0, "epoch": 0, "step": 2, "loss": 2.5,
        "images_per_second": 10.0, "done": pytest.approx(3 / 18), "seconds_left": 15.0,
    }  # fmt: skip
    now[0] += 4
    for step in (3, 4):
        writer.step(0, step, torch.tensor(2.0))
    record = read_progress(tmp_path)
    assert record is not None
    assert (record["step"], record["images_per_second"]) == (3, 2.5)


def test_epochs_under_a_second_write_progress(tmp_path: Path, now: list[float]) -> None:
    writer = ProgressWriter(tmp_path, epochs=9, steps=1, batch_size=10, active=True)
    for epoch in range(3):
        now[0] += 0.5
        writer.step(epoch, 0, torch.tensor(1.0))
        writer.begin_epoch(0)
    record = read_progress(tmp_path)
    assert record is not None and (record["epoch"], record["images_per_second"]) == (1, 20.0)


def test_inactive_ranks_write_nothing(tmp_path: Path, now: list[float]) -> None:
    meter = SweepProgress(ProgressWriter(tmp_path, 1, 1, 1, active=False), "test", epoch=1, rows=10)
    now[0] += 2
    meter(5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("epochs", [10, 30])
@pytest.mark.parametrize("nets", [1, 2])
def test_time_left_is_accurate_after_a_quarter(tmp_path: Path, now: list[float], epochs: int, nets: int) -> None:
    """With a slow first step, checkpoints, validations under a second, and a final evaluation."""
    pace = EtaEstimator(epochs, steps=20, every=5, validation=600.0, test=1.5 * 4000.0, step_work=20.0)
    writer, record = ProgressWriter(tmp_path, epochs, 20, 10, active=True, pace=pace), list[tuple[float, float]]()

    def spend(seconds: float) -> None:
        now[0] += seconds
        word = read_progress(tmp_path) or {}
        if "seconds_left" in word and word["seconds_left"] != (record[-1][1] if record else None):
            record.append((now[0] - seconds, word["seconds_left"]))

    def sweep(meter: SweepProgress, blocks: int, each: float) -> None:
        for _ in range(blocks):
            spend(each)
            meter(1)

    began = now[0]
    for epoch in range(epochs):
        writer.begin_epoch(0)
        for step in range(20):
            spend(5.0 if epoch == step == 0 else 0.02)
            writer.step(epoch, step, torch.tensor(1.0))
        if (epoch + 1) % 5 == 0 or epoch + 1 == epochs:
            sweep(SweepProgress(writer, "validate", epoch, 4), 4, 0.15)
            pace.test = nets * 4000.0
        spend(0.2)
    sweep(SweepProgress(writer, "test", epochs, 10), 10, 0.4 * nets)
    end = now[0]
    late = [(at, left) for at, left in record if at > began + (end - began) / 4 and end - at > 2]
    assert late
    assert [(at, left) for at, left in late if abs(left - (end - at)) > 0.3 * (end - at)] == []
