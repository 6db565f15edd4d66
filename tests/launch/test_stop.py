"""A run that is asked to stop saves where it is, says so by its status, and goes on as if nothing had been."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.engine.checkpoint import moment_of, newest
from distcond.launch import stop_file
from support import launch_run
from support.leftovers import processes_with
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

HERE = Path(__file__).parent

#: To be met in the middle, on any machine: its steps are slow until a file says otherwise.
LONG = ("method=faulty:METHOD", "epochs=3", "train_examples=1024", "batch_size=16", "save_every=3", "eval.every=0")
LOCAL, RAY = ("launch=local",), ("launch=ray", "launch.workers=1")


def in_training(path: Path) -> Callable[[], bool]:
    """Whether the run has done a step of its first epoch, and has not ended."""

    def look() -> bool:
        try:
            return bool(json.loads((path / "progress.json").read_text())["stage"] == "train")
        except (OSError, ValueError, KeyError):
            return False

    return look


@pytest.fixture(autouse=True)
def methods_with_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what runs in this process."""
    monkeypatch.syspath_prepend(HERE)


def finish(place: Any, *settings: str) -> dict[str, Any]:
    """Run it to its end in this process, from its last checkpoint if there is one; the weights."""
    run, *words = place.words(*settings)
    assert launch_run.main(Path(run), words) == 0
    return weights(Path(run))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, placed: Any) -> dict[str, Any]:
    """The weights of a run on one process that nobody stopped."""
    with placed(tmp_path_factory.mktemp("whole")) as place, pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        return finish(place, *LOCAL, *LONG)


def weights(run: Path) -> dict[str, Any]:
    """Of the last checkpoint."""
    last = newest(run / "checkpoints")
    assert last is not None
    return {name: value.tolist() for name, value in torch.load(last / "shared.pt", weights_only=True)["model"].items()}


@pytest.mark.parametrize(
    ("settings", "asks"),
    [
        (LOCAL, signal.SIGTERM),
        pytest.param(RAY, signal.SIGUSR2, marks=[pytest.mark.ray, pytest.mark.cluster]),
    ],
)
def test_stopped_run_resumes_bit_for_bit(
    place: Any, uninterrupted: dict[str, Any], settings: tuple[str, ...], asks: int
) -> None:
    run = place.start(*settings, *LONG, FAULT_SLOW=str(place.path / "swift"))
    wait_until(in_training(run.path), "the first second of training", process=run.process)
    run.process.send_signal(asks)
    assert run.end() == 128 + asks, run.output
    last = newest(run.path / "checkpoints")
    assert last is not None
    epoch, step = moment_of(last)
    assert step > 0
    assert run.output.splitlines()[-1] == f"stopped: checkpoint in epoch {epoch + 1}, after its step {step}"
    assert signal.Signals(asks).name in run.output
    assert not processes_with(place.mark)
    assert finish(place, *LOCAL, *LONG) == uninterrupted


def test_killed_run_resumes_bit_for_bit(place: Any, uninterrupted: dict[str, Any]) -> None:
    steps = ("save_steps=8", *LONG)
    run = place.start(*LOCAL, *steps, FAULT_SLOW=str(place.path / "swift"))
    wait_until(lambda: newest(run.path / "checkpoints"), "a checkpoint", process=run.process)
    run.process.send_signal(signal.SIGKILL)
    assert run.end() == -signal.SIGKILL
    assert finish(place, *LOCAL, *steps) == uninterrupted


@pytest.mark.cluster
def test_torchrun_passes_the_stop_on(place: Any) -> None:
    run = place.start(*LOCAL, *LONG, torchrun=2, FAULT_SLOW=str(place.path / "swift"))
    wait_until(in_training(run.path), "the first second of training", process=run.process)
    run.process.send_signal(signal.SIGTERM)
    assert run.end() != 0, run.output
    last = newest(run.path / "checkpoints")
    assert last is not None
    assert moment_of(last).step > 0
    assert len(list(last.glob("rank-*.pt"))) == 2


def test_a_second_signal_ends_a_run_at_once(place: Any) -> None:
    run = place.start(*LOCAL, "method=faulty:METHOD", FAULT="wait", FAULT_STEP="2", FAULT_RANK="0")
    wait_until((place.path / "fault").exists, "the second step", process=run.process)
    for _ in range(2):
        run.process.send_signal(signal.SIGTERM)
        wait_until(lambda: run.process.poll() is not None or waits(run.process.pid), "the signal to be taken")
    assert run.end() == 128 + signal.SIGTERM, run.output
    assert newest(run.path / "checkpoints") is None


def waits(process: int) -> bool:
    """Whether no SIGTERM is pending for a process."""
    lines = dict(
        line.split(":\t") for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":\t" in line
    )
    return not (int(lines["ShdPnd"], 16) | int(lines["SigPnd"], 16)) & 1 << signal.SIGTERM - 1


def test_stop_file_names_the_start(tmp_path: Path) -> None:
    assert not stop_file.asked(tmp_path, "one")
    stop_file.ask(tmp_path, "one")
    assert stop_file.asked(tmp_path, "one")
    assert not stop_file.asked(tmp_path, "another")  # start of the run
    stop_file.allow(tmp_path)
    assert not stop_file.asked(tmp_path, "one")
