"""A stop request: the run saves a checkpoint, reports it by its exit status, and resumes bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.launch import stopping
from distcond.runs.checkpoint import latest, step_of
from distcond.training import checkpointing
from support import launch_run

pytestmark = pytest.mark.timeout(900)

HERE = Path(__file__).parent

#: Eight steps an epoch.
RUN = (
    "launch=local", "method=faulty:METHOD", "epochs=3", "train_examples=128", "batch_size=16",
    "save_every=3", "eval.every=0",
)  # fmt: skip


@pytest.fixture(autouse=True)
def faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault settings for runs in this process."""
    monkeypatch.syspath_prepend(HERE)


def finish(place: Any, *settings: str) -> dict[str, Any]:
    """Run to the end in this process, from the last checkpoint if there is one; returns the weights."""
    run, *args = place.words(*RUN, *settings)
    assert launch_run.main(Path(run), args) == 0
    return weights(Path(run))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, placed: Any) -> dict[str, Any]:
    """The weights of an uninterrupted run on one process."""
    with placed(tmp_path_factory.mktemp("uninterrupted")) as place, pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        return finish(place)


def weights(run: Path) -> dict[str, Any]:
    """The weights in the last checkpoint."""
    last = latest(run / "checkpoints")
    assert last is not None
    return {name: value.tolist() for name, value in torch.load(last / "shared.pt", weights_only=True)["model"].items()}


def faulty(place: Any, patch: pytest.MonkeyPatch, kind: str, step: int) -> list[str]:
    """Arguments of a run with a fault in one of its steps."""
    patch.setattr("faulty._steps", 0)
    variables = {"FAULT": kind, "FAULT_STEP": str(step), "FAULT_RANK": "0", "FAULT_ONCE": str(place.path / "fault")}
    for name, value in variables.items():
        patch.setenv(name, value)
    args: list[str] = place.words(*RUN)
    return args


def test_stopped_run_resumes_bit_for_bit(
    place: Any, uninterrupted: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpointing, "INTERVAL", 0.0)  # agree after every step
    run, *args = faulty(place, monkeypatch, "stop", step=11)
    assert launch_run.main(Path(run), args) == 128 + signal.SIGTERM
    last = latest(Path(run) / "checkpoints")
    assert last is not None and step_of(last) == (1, 3)
    output = capfd.readouterr().err
    assert output.splitlines()[-1] == "stopped: checkpoint in epoch 2, after step 3"
    assert "SIGTERM: " in output
    assert finish(place) == uninterrupted


def test_killed_run_resumes_bit_for_bit(place: Any, uninterrupted: dict[str, Any]) -> None:
    run = place.start(*RUN, "save_steps=4", FAULT="kill", FAULT_STEP="14", FAULT_RANK="0")
    assert run.end() == -signal.SIGKILL
    last = latest(run.path / "checkpoints")
    assert last is not None and step_of(last) == (1, 4)
    assert finish(place, "save_steps=4") == uninterrupted


def test_second_signal_ends_the_run_at_once(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, *args = faulty(place, monkeypatch, "insist", step=2)
    with pytest.raises(SystemExit) as end:
        launch_run.main(Path(run), args)
    assert end.value.code == 128 + signal.SIGTERM
    assert latest(Path(run) / "checkpoints") is None


def test_stop_file_names_the_start(tmp_path: Path) -> None:
    assert not stopping.stop_requested(tmp_path, "one")
    stopping.request_stop(tmp_path, "one")
    assert stopping.stop_requested(tmp_path, "one")
    assert not stopping.stop_requested(tmp_path, "another")  # another start
    stopping.clear_stop_request(tmp_path)
    assert not stopping.stop_requested(tmp_path, "one")
