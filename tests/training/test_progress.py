"""What a run says about how far it is."""

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
    """A clock that stands until it is moved."""
    at = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: at[0], time=lambda: 0.0))
    return at


def test_nothing_is_said_before_the_first_word(tmp_path):
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
    assert read_progress(tmp_path) == began | {"share": 1.0}  # never more than all


def test_a_rank_without_rows_has_a_share_too(tmp_path: Path, now: list[float]) -> None:
    meter = SweepProgress(ProgressWriter(tmp_path, 1, 1, 1, active=True), "validate", epoch=1, rows=0)
    now[0] += 2
    meter(0)
    said = read_progress(tmp_path)
    assert said is not None and said["share"] == 0.0


def test_training_says_its_speed_since_the_last_word(tmp_path: Path, now: list[float]) -> None:
    speaker = ProgressWriter(tmp_path, epochs=2, steps=9, batch_size=10, active=True)
    speaker.step(0, 1, torch.tensor(3.0))
    assert read_progress(tmp_path) is None
    now[0] += 2
    speaker.step(0, 2, torch.tensor(2.5))
    said = read_progress(tmp_path)
    assert said == {
        "stage": "train", "epochs": 2, "steps": 9, "time": 0.0, "epoch": 0, "step": 2, "loss": 2.5,
        "images_per_second": 10.0, "done": pytest.approx(3 / 18), "seconds_left": 15.0,
    }  # fmt: skip
    now[0] += 4
    for step in (3, 4):
        speaker.step(0, step, torch.tensor(2.0))
    said = read_progress(tmp_path)
    assert said is not None
    assert (said["step"], said["images_per_second"]) == (3, 2.5)


def test_epochs_under_a_second_write_progress(tmp_path: Path, now: list[float]) -> None:
    speaker = ProgressWriter(tmp_path, epochs=9, steps=1, batch_size=10, active=True)
    for epoch in range(3):
        now[0] += 0.5
        speaker.step(epoch, 0, torch.tensor(1.0))
        speaker.begin_epoch(0)
    said = read_progress(tmp_path)
    assert said is not None and (said["epoch"], said["images_per_second"]) == (1, 20.0)


def test_other_ranks_are_silent(tmp_path: Path, now: list[float]) -> None:
    meter = SweepProgress(ProgressWriter(tmp_path, 1, 1, 1, active=False), "test", epoch=1, rows=10)
    now[0] += 2
    meter(5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("epochs", [10, 30])
@pytest.mark.parametrize("nets", [1, 2])
def test_time_left_is_near_after_a_quarter(tmp_path: Path, now: list[float], epochs: int, nets: int) -> None:
    """A slow first step, an epoch's checkpoint, validations under a second, and sweeps at the end."""
    pace = EtaEstimator(epochs, steps=20, every=5, validation=600.0, test=1.5 * 4000.0, step_work=20.0)
    speaker, said = ProgressWriter(tmp_path, epochs, 20, 10, active=True, pace=pace), list[tuple[float, float]]()

    def spend(seconds: float) -> None:
        now[0] += seconds
        word = read_progress(tmp_path) or {}
        if "seconds_left" in word and word["seconds_left"] != (said[-1][1] if said else None):
            said.append((now[0] - seconds, word["seconds_left"]))

    def sweep(meter: SweepProgress, blocks: int, each: float) -> None:
        for _ in range(blocks):
            spend(each)
            meter(1)

    began = now[0]
    for epoch in range(epochs):
        speaker.begin_epoch(0)
        for step in range(20):
            spend(5.0 if epoch == step == 0 else 0.02)
            speaker.step(epoch, step, torch.tensor(1.0))
        if (epoch + 1) % 5 == 0 or epoch + 1 == epochs:
            sweep(SweepProgress(speaker, "validate", epoch, 4), 4, 0.15)
            pace.test = nets * 4000.0
        spend(0.2)
    sweep(SweepProgress(speaker, "test", epochs, 10), 10, 0.4 * nets)
    end = now[0]
    late = [(at, left) for at, left in said if at > began + (end - began) / 4 and end - at > 2]
    assert late
    assert [(at, left) for at, left in late if abs(left - (end - at)) > 0.3 * (end - at)] == []
