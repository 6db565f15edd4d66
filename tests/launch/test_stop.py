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

pytestmark = pytest.mark.timeout(900)

#: To be met in the middle, on any machine: its steps are slow until a file says otherwise.
LONG = ("method=faulty:METHOD", "epochs=3", "train_examples=1024", "batch_size=16", "save_every=3", "eval.every=0")


def in_training(path: Path) -> Callable[[], bool]:
    """Whether the run has done a step of its first epoch, and has not ended."""

    def look() -> bool:
        try:
            return bool(json.loads((path / "progress.json").read_text())["stage"] == "train")
        except (OSError, ValueError, KeyError):
            return False

    return look


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, placed: Any) -> dict[str, Any]:
    """The weights of a run on one process that nobody stopped."""
    with placed(tmp_path_factory.mktemp("whole")) as place:
        run = place.start("launch=local", *LONG)
        assert run.end() == 0, run.output
        return weights(run.path)


def weights(run: Path) -> dict[str, Any]:
    """Of the last checkpoint."""
    last = newest(run / "checkpoints")
    assert last is not None
    return {name: value.tolist() for name, value in torch.load(last / "shared.pt", weights_only=True)["model"].items()}


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("settings", "asks"),
    [
        (("launch=local",), signal.SIGTERM),
        pytest.param(("launch=ray", "launch.workers=1"), signal.SIGUSR2, marks=pytest.mark.ray),
    ],
)
def test_a_run_stops_with_a_checkpoint_and_goes_on_from_there(
    place: Any, leftovers: Any, wait_for: Any, uninterrupted: dict[str, Any], settings: tuple[str, ...], asks: int
) -> None:
    run = place.start(*settings, *LONG, FAULT_SLOW=str(place.path / "swift"))
    wait_for(in_training(run.path), "the first second of training")
    run.process.send_signal(asks)
    assert run.end() == 128 + asks, run.output
    last = newest(run.path / "checkpoints")
    assert last is not None
    epoch, step = moment_of(last)
    assert step > 0
    assert run.output.splitlines()[-1] == f"stopped: checkpoint in epoch {epoch + 1}, after its step {step}"
    assert f"{signal.Signals(asks).name}: stopping after a checkpoint" in run.output
    assert not leftovers.processes_with(place.mark)
    again = place.start(*settings, *LONG)
    assert again.end() == 0, again.output
    assert not [name for name, value in weights(run.path).items() if value != uninterrupted[name]]


@pytest.mark.cluster
def test_torchrun_passes_the_wish_on_to_every_process(place: Any, wait_for: Any) -> None:
    run = place.start("launch=local", *LONG, torchrun=2, FAULT_SLOW=str(place.path / "swift"))
    wait_for(in_training(run.path), "the first second of training")
    run.process.send_signal(signal.SIGTERM)
    assert run.end() != 0, run.output
    last = newest(run.path / "checkpoints")
    assert last is not None
    assert moment_of(last).step > 0
    assert len(list(last.glob("rank-*.pt"))) == 2


def test_a_second_signal_ends_a_run_at_once(place: Any, wait_for: Any) -> None:
    run = place.start("launch=local", "method=faulty:METHOD", FAULT="wait", FAULT_STEP="2", FAULT_RANK="0")
    wait_for((place.path / "fault").exists, "the second step")
    for _ in range(2):
        run.process.send_signal(signal.SIGTERM)
        wait_for(lambda: run.process.poll() is not None or waits(run.process.pid), "the signal to be taken")
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
